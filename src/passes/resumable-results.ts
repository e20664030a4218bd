import { basename } from "node:path";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { moveFile } from "../base/files.js";
import { type Interval, isDue } from "../base/interval.js";
import type { Config } from "../config/schema.js";
import { assertSameContents, fingerprintList, formatFingerprint, type Shard, type ShardContents } from "../data/shard.js";
import { type Prediction, RESULT_CODECS, type ResultEncoder } from "../results/result-codecs.js";
import { RESULT_FORMATS } from "../results/result-formats.js";
import { PENDING_LENGTH, type ResultTarget, type ResultWriter } from "../results/result-writer.js";
import { PartialFile } from "./partial-file.js";
import { PartialFolder, readPartialState, TALLY_NAME } from "./partial-folder.js";
import { assertSameSettings, encodeSums, type PartialState, restoreSums, type Sums } from "./partial-state.js";

/** How to resume a stopped run, and how often to save. */
export interface ResumeOptions {
  /** Whether to resume from the partial results of an earlier run. */
  readonly resume: boolean;
  readonly saveInterval: Interval;
  /** The command that resumes the run, for the log. */
  readonly resumeCommand: string;
  /** Registers `save` to be called whenever a save is requested (SIGUSR1). */
  readonly onSaveRequest: (save: () => void) => void;
}

/** Data collected from the videos besides their predictions; restored when a run resumes. */
export interface Tally {
  /** Bytes collected since the last `take`. */
  readonly length: number;
  take(): Uint8Array;
  /** Restores bytes that were taken, in order, in pieces whose length is a multiple of 8 bytes. */
  put(bytes: Uint8Array): void;
  /** Sums over the videos, by name; their lengths are fixed. */
  readonly sums: Sums;
}

export interface ResumableOptions extends ResumeOptions {
  /** The path of the main result without extension; partial results are in a folder with this name plus `.partial`. */
  readonly stem: string;
  /** The settings that determine the results, by config key or flag. */
  readonly settings: Readonly<Record<string, string>>;
  /** The shards, and their modification times and checksums. */
  readonly shards: { readonly list: readonly Shard[]; readonly contents: ShardContents };
  /** The software and device that compute the results. */
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

export interface ResumableOutcome {
  readonly stopped: boolean;
  /** Videos done, including those of the runs that this one resumed. */
  readonly videos: number;
  /** Folder of the partial results if the run stopped early; null if there are none. */
  readonly partialFolder: string | null;
  /** Empty if the run stopped early. */
  readonly resultFiles: readonly string[];
}

/** Config keys that a resumed run may change: file paths, readers, device, and limits. */
const IGNORED_KEYS: ReadonlySet<string> = new Set(["eigen_file", "filelist", "max_record_bytes", "num_readers", "use_gpu"]);

/** Returns the settings that the results of `eval` and `infer` depend on, by config key or flag. */
export function describeSettings(
  config: Config,
  section: "TEST" | "INFER",
  used: { readonly batchSize: number; readonly shards: readonly Shard[]; readonly weights: string; readonly target: ResultTarget | null },
): Record<string, string> {
  const keys = (["MODEL", section] as const).flatMap((name) =>
    Object.entries(config[name])
      .filter(([key]) => !IGNORED_KEYS.has(key))
      .map(([key, value]) => [`${name}.${key}`, String(value)] as const),
  );
  const { formats, names = null } = used.target ?? {};
  return {
    ...Object.fromEntries(keys),
    [`${section}.batch_size`]: String(used.batchSize),
    [`${section}.filelist`]: formatFingerprint(fingerprintList(used.shards)),
    "--weights": `weights with checksum ${used.weights}`,
    ...(formats === undefined ? {} : { [section === "TEST" ? "--predictions" : "--format"]: formats.join(",") }),
    ...(names === null ? {} : { "--labels": `names with checksum ${names.checksum()}` }),
  };
}

/** Returns the settings of the partial results beside `stem`; null if there are none or they cannot be read. */
export async function readPartialSettings(stem: string): Promise<Readonly<Record<string, string>> | null> {
  return (await readPartialState(`${stem}.partial`).catch(() => null))?.work ?? null;
}

/**
 * Runs `work`, which writes results batch by batch to a partial folder, with regular saves, so that a run that was stopped, failed or was killed can be
 * resumed. With `resume`, the files are truncated to the last save, and `work` starts after it (`done`).
 * If `work` was not stopped, calls `finish` and moves the files to their final paths. If `finish` throws BAD_LABELS, the saved state is removed, because
 * resuming would fail in the same way.
 * Throws SAVE_DIR_TAKEN, BAD_CONFIG (settings or shards differ), BAD_RESULTS (the partial results are corrupt), FILE_UNWRITABLE, and what `work` and `finish`
 * throw.
 */
export async function writeResumably(
  options: ResumableOptions,
  work: (writer: BatchWriter) => Promise<{ readonly stopped: boolean }>,
  finish: () => Promise<void> = async () => {},
): Promise<ResumableOutcome> {
  const folder = await PartialFolder.open(`${options.stem}.partial`, options.log);
  const results = new PartialResults(options, folder);
  try {
    await results.open();
    options.onSaveRequest(() => results.requestSave());
    const { stopped } = results.isComplete ? { stopped: false } : await work(results);
    if (!stopped) await results.finish(finish);
    else if (results.done.batches > 0) await results.save();
    const isKept = await results.close();
    const { videos } = results.done;
    return { stopped, videos, partialFolder: isKept ? folder.path : null, resultFiles: stopped ? [] : results.destinations };
  } catch (error) {
    // No save here: the files may contain part of a batch.
    if (error instanceof NextvladError) {
      if (results.isComplete && error.code === "BAD_LABELS") await folder.clear();
      if (results.isOpen && error.details.damaged !== undefined) await results.recordCorruptShard(error.details.file);
    }
    const isKept = await results.close();
    if (isKept && results.isOpen) options.log.warn(`partial results are in ${folder.path}; resume with: ${options.resumeCommand}`);
    throw error;
  }
}

/** A partial file, what it is written from, and its final path; null for a file that only a resumed run needs. */
interface OpenFile {
  readonly file: PartialFile;
  readonly source: Pick<ResultEncoder, "length" | "take">;
  readonly destination: string | null;
}

class PartialResults implements BatchWriter {
  readonly #options: ResumableOptions;
  readonly #folder: PartialFolder;
  readonly #encoders: ResultEncoder[] = [];
  readonly #files: OpenFile[] = [];
  /** The state on disk; null if there is none. */
  #saved: PartialState | null = null;
  #savedMs = performance.now();
  #isSaveRequested = false;
  isOpen = false;
  isComplete = false;
  done = { batches: 0, videos: 0, fraction: 0 };

  constructor(options: ResumableOptions, folder: PartialFolder) {
    this.#options = options;
    this.#folder = folder;
  }

  get takesPredictions(): boolean {
    return this.#options.target !== null;
  }

  /** The final paths of the prediction files. */
  get destinations(): readonly string[] {
    const { target } = this.#options;
    return target === null ? [] : target.formats.map((format) => target.path + RESULT_FORMATS[format].extension);
  }

  requestSave(): void {
    this.#isSaveRequested = true;
  }

  /** Opens the partial results of an earlier run, or clears them and starts from the beginning. */
  async open(): Promise<void> {
    const state = this.#options.resume ? await this.#folder.readState() : null;
    if (state === null) await this.#clear();
    else this.#resumeFrom(state);
    const { target, tally } = this.#options;
    for (const format of target?.formats ?? []) {
      const destination = target?.path + RESULT_FORMATS[format].extension;
      const encoder = RESULT_CODECS[format].createEncoder(target?.names ?? null, this.done.videos);
      this.#encoders.push(encoder);
      await this.#openFile(basename(destination), encoder, destination);
    }
    if (tally !== null) await this.#openFile(TALLY_NAME, tally, null, (piece) => tally.put(piece));
    this.isOpen = true;
    this.#savedMs = performance.now();
  }

  async #clear(): Promise<void> {
    const { resume, log } = this.#options;
    const { path } = this.#folder;
    // A corrupt state does not prevent a start from the beginning.
    const old = resume ? null : await this.#folder.readState().catch(() => null);
    if (resume) log.info(`--resume finds no partial results in ${path}: starting from the beginning`);
    if (old !== null) {
      log.warn(
        `starting from the beginning: removed the partial results of ${old.videos} videos in ${path}; use --resume to continue them`,
      );
    }
    await this.#folder.clear();
  }

  #resumeFrom(state: PartialState): void {
    const { settings, shards, computedBy, tally, log } = this.#options;
    assertSameSettings(state.work, settings, this.#folder.path);
    if (state.shards !== null) {
      const remedy = "restore the shard, or start from the beginning, without --resume";
      assertSameContents(shards.list, state.shards, shards.contents, { key: "--resume", remedy, corrupt: state.shards.corrupt });
    }
    if (state.computed_by !== computedBy) {
      log.warn(`the partial results were computed with ${state.computed_by}, now ${computedBy}: the last digits will differ`);
    }
    const { batches, videos, fraction, complete } = state;
    log.info(`resuming after batch ${batches}: ${videos} videos are done`);
    restoreSums(tally?.sums ?? {}, state.sums, this.#folder.path);
    this.#saved = state;
    this.done = { batches, videos, fraction };
    this.isComplete = complete;
  }

  async #openFile(
    name: string,
    source: OpenFile["source"],
    destination: string | null,
    restore = (_: Uint8Array): void => {},
  ): Promise<void> {
    const path = this.#folder.fileOf(name);
    try {
      const mark = this.#saved?.files[name] ?? { bytes: 0, crc32c: 0 };
      const file = this.#saved === null ? await PartialFile.create(path) : await PartialFile.reopen(path, mark, restore);
      this.#files.push({ file, source, destination });
    } catch (error) {
      // Of complete results, some files may already be at their final paths.
      if (!this.isComplete || !isMissing(error)) throw error;
    }
  }

  async write(prediction: Prediction): Promise<void> {
    for (const encoder of this.#encoders) encoder.add(prediction);
    await this.#flush(PENDING_LENGTH);
  }

  async endBatch(videos: number, fraction: number): Promise<void> {
    this.done = { batches: this.done.batches + 1, videos: this.done.videos + videos, fraction };
    await this.#flush(PENDING_LENGTH);
    const isSaveDue = isDue(this.#options.saveInterval, this.done.batches, performance.now() - this.#savedMs);
    if (this.#isSaveRequested || isSaveDue) await this.save();
  }

  /** Writes pending output of at least `minLength` bytes or characters. */
  async #flush(minLength: number): Promise<void> {
    for (const { file, source } of this.#files) if (source.length >= minLength) await file.write(source.take());
  }

  /** Flushes everything done to disk: files first, so that the state never describes more than the files contain. */
  async save(): Promise<void> {
    this.#isSaveRequested = false;
    const { settings, shards, computedBy, tally } = this.#options;
    await this.#flush(0);
    const files: PartialState["files"] = {};
    for (const { file } of this.#files) files[basename(file.path)] = await file.sync();
    const sums = encodeSums(tally?.sums ?? {});
    const facts = { work: settings, shards: shards.contents, computed_by: computedBy, complete: this.isComplete, sums, files };
    const state = { ...facts, ...this.done };
    await this.#folder.writeState(state);
    this.#saved = state;
    this.#savedMs = performance.now();
  }

  /** Records in the saved state which shard is corrupt, so that a run with an intact copy of it can resume. */
  async recordCorruptShard(shard: string | undefined): Promise<void> {
    if (shard === undefined || !this.#saved?.shards) return;
    const state = { ...this.#saved, shards: { ...this.#saved.shards, corrupt: basename(shard) } };
    await this.#folder.writeState(state).catch((error: Error) => this.#options.log.warn(error.message));
  }

  /** Completes the files and moves them to their final paths. If the run is killed after the save, only the moves are left to do. */
  async finish(finish: () => Promise<void>): Promise<void> {
    if (!this.isComplete) {
      for (const encoder of this.#encoders) encoder.end();
      this.isComplete = true;
      await this.save();
    }
    await finish();
    for (const { file, destination } of this.#files) if (destination !== null) await moveFile(file.path, destination);
    await this.#folder.remove();
  }

  /** Closes the files and the folder. Returns whether there is something to resume from. */
  async close(): Promise<boolean> {
    for (const { file } of this.#files) await file.close();
    return this.#folder.close();
  }
}

function isMissing(error: unknown): boolean {
  return (error as { cause?: NodeJS.ErrnoException }).cause?.code === "ENOENT";
}
