import { lstat, readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Logger } from "pino";
import { fileError, NextvladError } from "../base/errors.js";
import { makeDirectory, moveFile, removeDirectory, writeFileAtomic } from "../base/files.js";
import { readInput } from "../base/input.js";
import { type Interval, isDue } from "../base/interval.js";
import { removeLeftovers } from "../base/leftovers.js";
import { confirmLock, type DirectoryLock, LOCK_NAME, lockDirectory } from "../base/lock.js";
import { showText } from "../base/shown-value.js";
import type { Config } from "../config/schema.js";
import { assertSameContents, fingerprintList, formatFingerprint, type Shard, shardContents } from "../data/shard.js";
import type { World } from "../distributed/world.js";
import type { MetricsAccumulator } from "../evaluation/metrics.js";
import type { MistakeList } from "../evaluation/mistakes.js";
import { type Prediction, RESULT_CODECS, type ResultEncoder } from "../results/result-codecs.js";
import { RESULT_FORMATS } from "../results/result-formats.js";
import { PENDING_LENGTH, type ResultTarget } from "../results/result-writer.js";
import { type Rounding, roundingWarning } from "../runtime/rounding.js";
import { PartialFile } from "./partial-file.js";
import { assertSameSettings, encodePartialState, type PartialState, parsePartialState, restoreSums } from "./partial-state.js";
import { announcePass } from "./ranks.js";
import { ScoreSpaceCheck } from "./stored-scores.js";

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

export interface ResumableOptions extends ResumeOptions {
  /** The path of the main result without extension; partial results are in a directory with this name plus `.partial`. */
  readonly stem: string;
  /** The settings that determine the results, by config key or flag. */
  readonly settings: Readonly<Record<string, string>>;
  readonly shards: readonly Shard[];
  /** The ranks that compute the results; the other ones wait until they know where the pass starts. */
  readonly world: World;
  readonly batchSize: number;
  /** What the last digits of the results depend on. */
  readonly computedBy: Rounding;
  /** Null to write no predictions. */
  readonly target: ResultTarget | null;
  /** Restored when a run resumes; null to compute no metrics. */
  readonly metrics: MetricsAccumulator | null;
  /** As `metrics`. Incomplete after the resume of partial results without mistakes, those of an older version. */
  readonly mistakes: MistakeList | null;
  readonly log: Logger;
}

/** What a pass over the videos uses of the results: it writes the predictions of whole batches, in order. */
export type BatchWriter = Pick<ResumableResults, "done" | "write" | "endBatch">;

export interface ResumableOutcome {
  readonly stopped: boolean;
  /** Videos done, including those of the runs that this one resumed. */
  readonly videos: number;
  /** Directory of the partial results if the run stopped early; null if there are none. */
  readonly partialDirectory: string | null;
  /** Empty if the run stopped early. */
  readonly resultFiles: readonly string[];
}

/** Config keys that a resumed run may change: file paths, readers, device, and limits. */
const IGNORED_KEYS: ReadonlySet<string> = new Set(["eigen_file", "filelist", "max_record_bytes", "num_readers", "use_gpu"]);

/** Returns the settings that the results of `eval` and `infer` depend on, by config key or flag. */
export function describeSettings(
  config: Config,
  section: "TEST" | "INFER",
  used: {
    readonly batchSize: number;
    readonly shards: readonly Shard[];
    readonly limitVideos: number | null;
    readonly weights: string;
    readonly target: ResultTarget | null;
  },
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
    // Without a limit, as in partial results of versions that did not have it.
    ...(used.limitVideos === null ? {} : { "--limit-videos": String(used.limitVideos) }),
    "--weights": `weights with checksum ${used.weights}`,
    ...(formats === undefined ? {} : { [section === "TEST" ? "--predictions" : "--format"]: formats.join(",") }),
    ...(names === null ? {} : { "--labels": `names with checksum ${names.checksum()}` }),
  };
}

const STATE_NAME = "state.json";
/** The file of the metrics' predictions. */
const METRICS_NAME = "tally.bin";
/** The file of all scores, for the metrics over the full ranking. */
const SCORES_NAME = "scores.bin";
const MISTAKES_NAME = "mistakes.jsonl";

/** Reads the state in a directory of partial results; null if none was saved. Throws BAD_RESULTS, FILE_UNREADABLE. */
async function readPartialState(directory: string): Promise<PartialState | null> {
  const file = join(directory, STATE_NAME);
  const text = await readInput(file).catch((error: NextvladError) => {
    if (error.code === "FILE_MISSING") return null;
    throw error;
  });
  return text === null ? null : parsePartialState(text.toString("utf8"), file);
}

/** Returns the settings of the partial results beside `stem`; null if there are none or they cannot be read. */
export async function readPartialSettings(stem: string): Promise<Readonly<Record<string, string>> | null> {
  return (await readPartialState(`${stem}.partial`).catch(() => null))?.work ?? null;
}

/**
 * Runs `work`, which writes results batch by batch to a partial directory, with regular saves, so that a run that was stopped, failed or was killed can be
 * resumed. With `resume`, the files are truncated to the last save, and `work` starts after it (`done`).
 * If `work` was not stopped, calls `beforeMove` with the path of the file of `metrics.scores` and those of the results, and moves the files to their final paths.
 * If `beforeMove` throws BAD_LABELS, the saved state is removed, because resuming would fail in the same way.
 * Throws SAVE_DIR_TAKEN, BAD_CONFIG (settings or shards differ), BAD_RESULTS (the partial results are corrupt), FILE_UNWRITABLE, and what `work` and
 * `beforeMove` throw.
 */
export async function writeResumably(
  options: ResumableOptions,
  work: (writer: BatchWriter) => Promise<{ readonly stopped: boolean }>,
  beforeMove: (scoresFile: string, resultFiles: readonly string[]) => Promise<void> = async () => {},
): Promise<ResumableOutcome> {
  const results = await ResumableResults.open(options);
  try {
    const { world, batchSize } = options;
    announcePass(world, results.isComplete ? null : { batchSize, doneBatches: results.done.batches });
    const { stopped } = results.isComplete ? { stopped: false } : await work(results);
    if (!stopped) await results.finish(beforeMove);
    else if (results.done.batches > 0) await results.save();
    const partialDirectory = await results.close();
    return { stopped, videos: results.done.videos, partialDirectory, resultFiles: stopped ? [] : results.destinations };
  } catch (error) {
    // No save here: the files may contain part of a batch.
    if (error instanceof NextvladError && error.details.damaged !== undefined) await results.recordCorruptShard(error.details.file);
    const directory = await results.close();
    if (directory !== null) options.log.warn(`partial results are in ${directory}; resume with: ${options.resumeCommand}`);
    throw error;
  }
}

/** A partial file, what it is written from, and its final path; null for what only a resumed run needs: the metrics' predictions and scores, and the mistakes. */
interface OpenFile {
  readonly file: PartialFile;
  readonly source: Pick<ResultEncoder, "length" | "take">;
  readonly destination: string | null;
}

/** The directory of partial results, beside their final paths: the results so far, and the state that records how far they go. */
class ResumableResults {
  readonly #options: ResumableOptions;
  readonly #directory: string;
  readonly #lock: DirectoryLock;
  readonly #encoders: ResultEncoder[] = [];
  readonly #files: OpenFile[] = [];
  #savedMs = performance.now();
  #isSaveRequested = false;
  readonly #scoreSpace = new ScoreSpaceCheck();
  /** The final paths of the prediction files. */
  readonly destinations: string[] = [];
  /** Number of batches and videos done, including those of earlier runs, and their fraction of the shards' bytes. */
  done = { batches: 0, videos: 0, fraction: 0 };
  /** Whether all videos are done, so that only `finish` is left to do. */
  isComplete = false;

  private constructor(options: ResumableOptions, directory: string, lock: DirectoryLock) {
    this.#options = options;
    this.#directory = directory;
    this.#lock = lock;
  }

  /** Locks the directory, and opens the partial results of an earlier run, or removes them and starts from the beginning. */
  static async open(options: ResumableOptions): Promise<ResumableResults> {
    const directory = `${options.stem}.partial`;
    const results = new ResumableResults(options, directory, await lockPartialDirectory(directory, options.log));
    try {
      await results.#start();
      return results;
    } catch (error) {
      await results.close();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { target, metrics, mistakes, onSaveRequest } = this.#options;
    const saved = await this.#load();
    if (saved === null) await this.#clear();
    else this.#restore(saved);
    const open = (name: string, restore?: (piece: Uint8Array) => void): Promise<PartialFile> => {
      const file = join(this.#directory, name);
      return saved === null ? PartialFile.create(file) : PartialFile.reopen(file, saved.files[name] ?? { bytes: 0, crc32c: 0 }, restore);
    };
    const { path = "", formats = [], names = null } = target ?? {};
    for (const format of formats) {
      const destination = path + RESULT_FORMATS[format].extension;
      const encoder = RESULT_CODECS[format].createEncoder(names, this.done.videos);
      this.destinations.push(destination);
      this.#encoders.push(encoder);
      // Of complete results, some files may already be at their final paths.
      if (this.isComplete && !(await exists(join(this.#directory, basename(destination))))) continue;
      this.#files.push({ file: await open(basename(destination)), source: encoder, destination });
    }
    if (metrics !== null) {
      const file = await open(METRICS_NAME, (piece) => metrics.put(piece));
      this.#files.push({ file, source: metrics, destination: null });
    }
    if (metrics !== null && metrics.scores !== null)
      this.#files.push({ file: await open(SCORES_NAME), source: metrics.scores, destination: null });
    if (mistakes !== null && saved !== null && saved.files[MISTAKES_NAME] === undefined) mistakes.isComplete = false;
    else if (mistakes !== null) {
      const file = await open(MISTAKES_NAME, (piece) => mistakes.put(piece));
      this.#files.push({ file, source: mistakes, destination: null });
    }
    onSaveRequest(() => {
      this.#isSaveRequested = true;
    });
    this.#savedMs = performance.now();
  }

  /** Returns the state to resume from; null to start from the beginning, after logging why. Throws BAD_RESULTS. */
  async #load(): Promise<PartialState | null> {
    const { resume, log } = this.#options;
    if (resume) {
      const state = await readPartialState(this.#directory);
      if (state === null) log.info(`--resume finds no partial results in ${this.#directory}: starting from the beginning`);
      return state;
    }
    // A corrupt state does not prevent a start from the beginning.
    const old = await readPartialState(this.#directory).catch(() => null);
    const removed = `removed the partial results of ${old?.videos} videos in ${this.#directory}; use --resume to continue them`;
    if (old !== null) log.warn(`starting from the beginning: ${removed}`);
    return null;
  }

  /** Restores everything but the files. Throws BAD_CONFIG, BAD_RESULTS. */
  #restore({ work, shards: saved, computed_by: software, level, threads, batches, videos, fraction, complete, sums }: PartialState): void {
    const { settings, shards, computedBy, metrics, log } = this.#options;
    assertSameSettings(work, settings, this.#directory);
    if (saved !== null) {
      const remedy = "restore the shard, or start from the beginning, without --resume";
      assertSameContents(shards, saved, { key: "--resume", remedy, corrupt: saved.corrupt });
    }
    const warning = roundingWarning("the partial results were computed", { software, level, threads }, computedBy);
    if (warning !== null) log.warn(warning);
    log.info(`resuming after batch ${batches}: ${videos} videos are done`);
    restoreSums(metrics?.sums ?? {}, sums, this.#directory);
    this.done = { batches, videos, fraction };
    this.isComplete = complete;
  }

  /** Removes everything that an earlier run left, the state first: without it, the other files are not used. Throws FILE_UNWRITABLE. */
  async #clear(): Promise<void> {
    try {
      await rm(join(this.#directory, STATE_NAME), { force: true });
      for (const name of await readdir(this.#directory)) if (name !== LOCK_NAME) await rm(join(this.#directory, name), { recursive: true });
    } catch (error) {
      throw fileError(error, this.#directory, "write");
    }
  }

  /** Resolves when the next prediction can be written: see `ResultWriter`. */
  async write(prediction: Prediction): Promise<void> {
    for (const encoder of this.#encoders) encoder.add(prediction);
    await this.#flush(PENDING_LENGTH);
  }

  /** Records that a batch is done, and saves if a save is due. */
  async endBatch(videos: number, fraction: number): Promise<void> {
    this.done = { batches: this.done.batches + 1, videos: this.done.videos + videos, fraction };
    await this.#flush(PENDING_LENGTH);
    const { scores = null } = this.#options.metrics ?? {};
    if (scores !== null) await this.#scoreSpace.endBatch(this.#directory, scores, this.done);
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
    const { settings, shards, computedBy, metrics } = this.#options;
    const { software, level, threads } = computedBy;
    await this.#flush(0);
    const files: PartialState["files"] = {};
    for (const { file } of this.#files) files[basename(file.path)] = await file.sync();
    const facts = { work: settings, shards: shardContents(shards), computed_by: software, level, threads, complete: this.isComplete };
    await this.#writeState({ ...facts, ...this.done, sums: { ...metrics?.sums }, files });
    this.#savedMs = performance.now();
  }

  /** Throws FILE_UNWRITABLE, and SAVE_DIR_TAKEN if another run has taken the directory over. */
  async #writeState(state: PartialState): Promise<void> {
    await confirmLock(this.#directory, this.#lock.text);
    await writeFileAtomic(join(this.#directory, STATE_NAME), encodePartialState(state));
  }

  /** Records in the saved state which shard is corrupt, so that a run with an intact copy of it can resume. Logs an error instead of throwing it. */
  async recordCorruptShard(shard = ""): Promise<void> {
    try {
      const state = await readPartialState(this.#directory);
      if (state?.shards) await this.#writeState({ ...state, shards: { ...state.shards, corrupt: basename(shard) } });
    } catch (error) {
      this.#options.log.warn((error as Error).message);
    }
  }

  /** Completes the files and moves them to their final paths. If the run is killed after the save, only the moves are left to do. */
  async finish(beforeMove: (scoresFile: string, resultFiles: readonly string[]) => Promise<void>): Promise<void> {
    if (!this.isComplete) {
      for (const encoder of this.#encoders) encoder.end();
      this.isComplete = true;
      await this.save();
    }
    // Of complete results, some may already be at their final paths.
    const current = this.destinations.map((path) => this.#files.find(({ destination }) => destination === path)?.file.path ?? path);
    await beforeMove(join(this.#directory, SCORES_NAME), current).catch(async (error: NextvladError) => {
      if (error.code === "BAD_LABELS") await this.#clear();
      throw error;
    });
    for (const { file, destination } of this.#files) if (destination !== null) await moveFile(file.path, destination);
    await removeDirectory(this.#directory);
  }

  /** Closes the files and releases the directory; removes it if it has no state to resume from. Returns its path if it is kept, else null. */
  async close(): Promise<string | null> {
    for (const { file } of this.#files) await file.close();
    // Another run may have taken the directory over.
    const isOwn = await confirmLock(this.#directory, this.#lock.text).then(
      () => true,
      () => false,
    );
    const hasState = isOwn && (await exists(join(this.#directory, STATE_NAME)));
    if (isOwn && !hasState) await removeDirectory(this.#directory).catch(() => undefined);
    await this.#lock.release();
    return hasState ? this.#directory : null;
  }
}

/**
 * Creates a directory for partial results, unless it exists, and locks it. Throws SAVE_DIR_TAKEN if another run uses it, FILE_UNWRITABLE (also if it is a link,
 * or contains files of other kinds, which would be removed with it).
 */
async function lockPartialDirectory(directory: string, log: Logger): Promise<DirectoryLock> {
  try {
    if ((await lstat(directory).catch(() => null))?.isSymbolicLink()) {
      const what = "the directory of partial results is a symbolic link, whose target would be cleared";
      throw new NextvladError("FILE_UNWRITABLE", what, { file: directory, remedy: "remove the link" });
    }
    await removeLeftovers(dirname(directory), new Set([basename(directory)]));
    await makeDirectory(directory);
    const foreign = (await readdir(directory)).find((name) => !isPartialResult(name));
    if (foreign !== undefined) {
      const what = `the directory of partial results contains another file, ${showText(foreign)}`;
      throw new NextvladError("FILE_UNWRITABLE", what, { file: directory, remedy: "move it" });
    }
    const lock = await lockDirectory(directory);
    if (lock.staleHolder !== null) log.info(`the previous run in this directory did not end normally: ${lock.staleHolder}`);
    await removeLeftovers(directory);
    return lock;
  } catch (error) {
    throw fileError(error, directory, "write");
  }
}

/** Returns whether a directory of partial results may contain a file of this name. */
function isPartialResult(name: string): boolean {
  if ([STATE_NAME, LOCK_NAME, METRICS_NAME, SCORES_NAME, MISTAKES_NAME].includes(name)) return true;
  return /^\..*\.(unfinished|removed)-/.test(name) || Object.values(RESULT_FORMATS).some(({ extension }) => name.endsWith(extension));
}

/** Returns whether a file exists; true if that cannot be known. */
function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== "ENOENT",
  );
}
