import { basename } from "node:path";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { moveFile } from "../base/files.js";
import type { SaveInterval } from "../base/save-interval.js";
import { assertSameContents, type Shard, type ShardContents } from "../data/shard.js";
import { PartialFile } from "./partial-file.js";
import { PartialFolder, readPartialState } from "./partial-folder.js";
import { type Output, outputsOf, type Tally } from "./partial-outputs.js";
import { encodeSums, type PartialState, refuseOtherWork, restoreSums } from "./partial-state.js";
import type { Prediction, ResultEncoder } from "./result-codecs.js";
import { PENDING_LENGTH, type ResultTarget, type ResultWriter } from "./result-writer.js";

/** How to resume work that was stopped, and how often to save. */
export interface ResumeOptions {
  /** Whether to resume from the partial results of an earlier run. */
  readonly resume: boolean;
  readonly saveInterval: SaveInterval;
  /** The command that resumes the work, for the log. */
  readonly resumeCommand: string;
  /** Registers `save` to be called whenever a save is requested (SIGUSR1). */
  readonly onSaveRequest: (save: () => void) => void;
}

export interface ResumableOptions extends ResumeOptions {
  /** The path of the main result without extension; partial results are in a folder with this name plus `.partial`. */
  readonly stem: string;
  /** Everything that determines the results, by config key or flag. */
  readonly work: Readonly<Record<string, string>>;
  /** The shards, and their modification times and checksums. */
  readonly shards: { readonly list: readonly Shard[]; readonly contents: ShardContents };
  /** A description of the software and device that computes the results. */
  readonly computedBy: string;
  /** Null to write no predictions. */
  readonly target: ResultTarget | null;
  /** Null if there is no tally. */
  readonly tally: Tally | null;
  readonly log: Logger;
}

/** Writes the predictions of whole batches, in order. */
export interface BatchWriter extends ResultWriter {
  /** Number of batches and videos done, including those of earlier runs, and their fraction of the shards' bytes. */
  readonly done: { readonly batches: number; readonly videos: number; readonly fraction: number };
  /** Whether predictions are written. */
  readonly takesPredictions: boolean;
  /** Records that a batch is done, and saves if a save is due. */
  endBatch(videos: number, fraction: number): Promise<void>;
}

/** Returns the settings of the partial results beside `stem`; null if there are none or they cannot be read. */
export async function readPartialWork(stem: string): Promise<PartialState["work"] | null> {
  return (await readPartialState(`${stem}.partial`).catch(() => null))?.work ?? null;
}

/**
 * Lets `work` write results batch by batch to a partial folder, with regular saves, so that a run that was stopped, failed or was killed can be resumed. With
 * `resume`, the files are truncated to the last save, and `work` starts after it (`done`).
 * If `work` was not stopped, calls `finish` and moves the files to their final paths. If `finish` throws BAD_LABELS, the saved state is removed, because
 * resuming would fail in the same way.
 * Throws SAVE_DIR_TAKEN, BAD_CONFIG (settings or shards differ), BAD_RESULTS (the partial results are corrupt), FILE_UNWRITABLE, and what `work` and `finish`
 * throw.
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
    // No save here: the files may hold part of a batch.
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

  /** Opens the partial results of an earlier run, or clears them and starts from the beginning. */
  async open(): Promise<void> {
    const { resume, log, computedBy } = this.#options;
    const state = resume ? await this.#folder.readState() : null;
    if (state === null) await this.#startAfresh();
    else {
      refuseOtherWork(state.work, this.#options.work, this.#folder.path);
      if (state.shards !== null) {
        const remedy = "restore the shard, or start from the beginning, without --resume";
        const { list, contents } = this.#options.shards;
        assertSameContents(list, state.shards, contents, { key: "--resume", remedy, corrupt: state.shards.corrupt });
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
    // A corrupt state does not prevent a start from the beginning.
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
        // Of complete results, some files may already be at their final paths.
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

  /** Writes pending output of at least `least` bytes or characters. */
  async #flush(least: number): Promise<void> {
    for (const { file, encoder } of this.#open) if (encoder.length >= least) await file.write(encoder.take());
  }

  /** Flushes everything done to disk: files first, so that the state never describes more than the files hold. */
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

  /** Records in the saved state which shard is corrupt, so that a run with an intact copy of it can resume. */
  async noteCorrupt(shard: string | undefined): Promise<void> {
    const state = await this.#folder.readState().catch(() => null);
    if (shard === undefined || state === null || state.shards === null) return;
    const corrupt = { ...state, shards: { ...state.shards, corrupt: basename(shard) } };
    await this.#folder.writeState(corrupt).catch((error: Error) => this.#options.log.warn(error.message));
  }

  /** Completes the files and moves them to their final paths. If the run is killed after the save, only the moves are left to do. */
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

  /** Closes the files and the folder. Returns whether there is something to resume from. */
  async close(): Promise<boolean> {
    for (const { file } of this.#open) await file.close();
    return this.#folder.close();
  }
}

function isMissing(error: unknown): boolean {
  return (error as { cause?: NodeJS.ErrnoException }).cause?.code === "ENOENT";
}
