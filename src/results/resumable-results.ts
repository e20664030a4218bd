import { basename } from "node:path";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { moveFile } from "../base/files.js";
import { PartialFile } from "../base/partial-file.js";
import type { SaveInterval } from "../base/save-interval.js";
import { assertSameContents, type ShardContents } from "../data/shard-list.js";
import { PartialFolder, readPartialState } from "./partial-folder.js";
import { type Output, outputsOf, type Tally } from "./partial-outputs.js";
import { encodeSums, type PartialState, refuseOtherWork, restoreSums } from "./partial-state.js";
import type { Prediction } from "./prediction.js";
import type { ResultEncoder } from "./result-encoders.js";
import { PENDING_LENGTH, type ResultTarget, type ResultWriter } from "./result-writer.js";

/** How work that may be stopped is told apart from other work, and how often what is done is saved. */
export interface ResumeOptions {
  /** Whether to go on with what an earlier run left. */
  readonly resume: boolean;
  readonly saveInterval: SaveInterval;
  /** The command that resumes the work, for the log. */
  readonly resumeCommand: string;
  /** Has `save` called whenever someone asks for it (SIGUSR1). */
  readonly onSaveRequest: (save: () => void) => void;
}

export interface ResumableOptions extends ResumeOptions {
  /** The main result's path without its ending: what is done lies in a folder of this name with `.partial` behind it. */
  readonly stem: string;
  /** All that decides what the results are, by the key or flag that says it. */
  readonly work: Readonly<Record<string, string>>;
  /** Paths of the shards, and their modification times and checksums. */
  readonly shards: { readonly paths: readonly string[]; readonly contents: ShardContents };
  /** What computes them, in words. */
  readonly computedBy: string;
  /** Null for no predictions. */
  readonly target: ResultTarget | null;
  /** Null where nothing is gathered. */
  readonly tally: Tally | null;
  readonly log: Logger;
}

/** Takes the predictions of whole batches, in order. */
export interface BatchWriter extends ResultWriter {
  /** Batches and videos done, by earlier runs too, and their share of the shards' bytes. */
  readonly done: { readonly batches: number; readonly videos: number; readonly fraction: number };
  /** Whether there is a file of predictions. */
  readonly takesPredictions: boolean;
  /** Notes that a batch is done, and saves where that is due. */
  endBatch(videos: number, fraction: number): Promise<void>;
}

/** What the partial results beside `stem` are the results of; null if there are none that can be read. */
export async function readPartialWork(stem: string): Promise<PartialState["work"] | null> {
  return (await readPartialState(`${stem}.partial`).catch(() => null))?.work ?? null;
}

/**
 * Lets `work` write results batch by batch, beside their places and saved again and again, so that a run that was stopped, failed or was killed can be gone
 * on with: `resume` takes the files back to the last save, and `work` begins behind it (`done`). When it was not stopped, `finish` is called and the
 * files get their places. If `finish` throws BAD_LABELS, resuming would fail in the same way: what is saved is removed. Throws SAVE_DIR_TAKEN, BAD_CONFIG (it is other work), BAD_RESULTS (what was saved is damaged), FILE_UNWRITABLE, and what the two throw.
 */
export async function writeResumably(
  options: ResumableOptions,
  work: (writer: BatchWriter) => Promise<{ readonly stopped: boolean }>,
  finish: () => Promise<void> = async () => {},
): Promise<{
  readonly stopped: boolean;
  readonly videos: number;
  readonly keptIn: string | null;
  readonly resultFiles: readonly string[];
}> {
  const folder = await PartialFolder.open(`${options.stem}.partial`, options.log);
  const results = new Results(options, folder);
  try {
    await results.open();
    options.onSaveRequest(() => results.requestSave());
    const { stopped } = results.complete ? { stopped: false } : await work(results);
    if (!stopped) await results.finish(finish);
    else if (results.done.batches > 0) await results.save(false);
    const kept = await results.close();
    return { stopped, videos: results.done.videos, keptIn: kept ? folder.path : null, resultFiles: stopped ? [] : results.paths };
  } catch (error) {
    // Nothing is saved now: the files may hold half a batch.
    if (results.complete && error instanceof NextvladError && error.code === "BAD_LABELS") await folder.clear();
    if (results.isOpen && error instanceof NextvladError && error.details.damaged !== undefined)
      await results.noteCorrupt(error.details.file);
    const kept = await results.close();
    if (kept && results.isOpen) options.log.warn(`what is done is kept in ${folder.path}; resume with: ${options.resumeCommand}`);
    throw error;
  }
}

interface OpenOutput {
  readonly file: PartialFile;
  readonly encoder: ResultEncoder;
}

class Results implements BatchWriter {
  readonly #options: ResumableOptions;
  readonly #folder: PartialFolder;
  readonly #outputs: readonly Output[];
  #open: readonly OpenOutput[] = [];
  isOpen = false;
  done = { batches: 0, videos: 0, fraction: 0 };
  complete = false;
  #saved = { batches: 0, atMs: performance.now() };
  #asked = false;

  constructor(options: ResumableOptions, folder: PartialFolder) {
    this.#options = options;
    this.#folder = folder;
    this.#outputs = outputsOf(options.target, options.tally);
  }

  get takesPredictions(): boolean {
    return this.#options.target !== null;
  }

  get paths(): readonly string[] {
    return this.#outputs.flatMap(({ place }) => (place === null ? [] : [place]));
  }

  requestSave(): void {
    this.#asked = true;
  }

  /** Takes up what an earlier run left, or clears it away. */
  async open(): Promise<void> {
    const { resume, log, computedBy } = this.#options;
    const state = resume ? await this.#folder.readState() : null;
    if (state === null) await this.#startAfresh();
    else {
      refuseOtherWork(state.work, this.#options.work, this.#folder.path);
      if (state.shards !== null) {
        const remedy = "restore the shard, or start from the beginning, without --resume";
        const { paths, contents } = this.#options.shards;
        assertSameContents(paths, state.shards, contents, { key: "--resume", remedy, corrupt: state.shards.corrupt });
      }
      if (state.computed_by !== computedBy) {
        log.warn(`what is done was computed with ${state.computed_by}, and the run goes on with ${computedBy}: last digits will differ`);
      }
      log.info(`going on after batch ${state.batches}: ${state.videos} videos are done`);
      await this.#takeUp(state);
    }
    this.isOpen = true;
    this.#saved = { batches: this.done.batches, atMs: performance.now() };
  }

  async #startAfresh(): Promise<void> {
    const { resume, log } = this.#options;
    const { path } = this.#folder;
    // A damaged state is no reason not to start afresh.
    const left = resume ? null : await this.#folder.readState().catch(() => null);
    if (resume) log.info(`--resume finds no partial results in ${path}: starting from the beginning`);
    if (left !== null) {
      log.warn(
        `starting from the beginning: removed the partial results of ${left.videos} videos in ${path}; to continue such a run, use --resume`,
      );
    }
    await this.#folder.clear();
    for (const { name, start } of this.#outputs) {
      this.#open = [...this.#open, { file: await PartialFile.create(this.#folder.fileOf(name)), encoder: start(0) }];
    }
  }

  async #takeUp(state: PartialState): Promise<void> {
    const { tally } = this.#options;
    const { batches, videos, fraction, complete } = state;
    restoreSums(tally?.sums ?? {}, state.sums, this.#folder.path);
    for (const { name, start, pass } of this.#outputs) {
      const path = this.#folder.fileOf(name);
      const mark = state.files[name] ?? { bytes: 0, crc32c: 0 };
      const file = await PartialFile.reopen(path, mark, pass).catch((error: unknown) => {
        // Of complete results, some may have their places already.
        if (complete && isMissing(error)) return null;
        throw error;
      });
      if (file !== null) this.#open = [...this.#open, { file, encoder: start(videos) }];
    }
    this.done = { batches, videos, fraction };
    this.complete = complete;
  }

  async write(prediction: Prediction): Promise<void> {
    for (const { encoder } of this.#open) encoder.add(prediction);
    await this.#flush(PENDING_LENGTH);
  }

  async endBatch(videos: number, fraction: number): Promise<void> {
    this.done = { batches: this.done.batches + 1, videos: this.done.videos + videos, fraction };
    await this.#flush(PENDING_LENGTH);
    if (this.#isDue()) await this.save(false);
  }

  #isDue(): boolean {
    const { saveInterval } = this.#options;
    if (this.#asked) return true;
    if ("steps" in saveInterval) return this.done.batches - this.#saved.batches >= saveInterval.steps;
    return performance.now() - this.#saved.atMs >= saveInterval.ms;
  }

  /** Writes what waits, where it is so much. */
  async #flush(least: number): Promise<void> {
    for (const { file, encoder } of this.#open) if (encoder.length >= least) await file.write(encoder.take());
  }

  /** Puts all that is done on the disk, files first, so that the state never tells of more than there is. */
  async save(complete: boolean): Promise<void> {
    this.#asked = false;
    const { work, shards, computedBy, tally } = this.#options;
    await this.#flush(0);
    const files: PartialState["files"] = {};
    for (const { file } of this.#open) files[basename(file.path)] = await file.sync();
    const sums = encodeSums(tally?.sums ?? {});
    await this.#folder.writeState({ work, shards: shards.contents, computed_by: computedBy, ...this.done, complete, sums, files });
    this.#saved = { batches: this.done.batches, atMs: performance.now() };
  }

  /** Notes in the saved state which shard is corrupt: a run with a good copy of it may resume. */
  async noteCorrupt(shard: string | undefined): Promise<void> {
    const state = await this.#folder.readState().catch(() => null);
    if (shard === undefined || state === null || state.shards === null) return;
    const corrupt = { ...state, shards: { ...state.shards, corrupt: basename(shard) } };
    await this.#folder.writeState(corrupt).catch((error: Error) => this.#options.log.warn(error.message));
  }

  /** Closes the files, and gives them their places: from the save on, a killed run has only that left to do. */
  async finish(finish: () => Promise<void>): Promise<void> {
    if (!this.complete) {
      for (const { encoder } of this.#open) encoder.end();
      await this.save(true);
      this.complete = true;
    }
    await finish();
    for (const { file } of this.#open) {
      const place = this.#outputs.find(({ name }) => name === basename(file.path))?.place ?? null;
      if (place !== null) await moveFile(file.path, place);
    }
    await this.#folder.remove();
  }

  /** Lets go of files and folder. Returns whether there is something to go on with. */
  async close(): Promise<boolean> {
    for (const { file } of this.#open) await file.close();
    return this.#folder.close();
  }
}

function isMissing(error: unknown): boolean {
  return (error as { cause?: NodeJS.ErrnoException }).cause?.code === "ENOENT";
}
