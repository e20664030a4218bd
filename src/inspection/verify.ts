import { decodeBytes } from "../base/byte-text.js";
import { type ErrorCode, type NextvladError, type SerializedError, serializeError } from "../base/errors.js";
import { requireProcessLimits } from "../base/resource-limits.js";
import { SlowWatch } from "../base/waiting.js";
import type { Shard } from "../data/shard.js";
import type { VideoShape } from "../data/video.js";
import { startWorker, type WorkerExit, workerExitError } from "../data/worker-thread.js";
import { IdTable } from "./id-table.js";
import type { ShardPiece, VerifyRequest } from "./verify-worker.js";

/** Shards queued per thread: the current one, and the next one, so that the thread does not wait for it. */
const QUEUED_SHARDS = 2;
/** Maximum number of repeated IDs that are listed; all records with a repeated ID are counted. */
const MAX_LISTED_REPEATS = 10_000;

export interface VerifyOptions {
  readonly shape: VideoShape;
  /** Number of checking threads, at least 1. */
  readonly readers: number;
  /** Aborted when the check should stop. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: VerifyProgress) => void;
  /** Called when a shard has yielded no results for `waitedMs`: the disk may not respond. */
  readonly onSlow?: (path: string, waitedMs: number) => void;
  /** The first `waitedMs`; a minute by default. */
  readonly slowMs?: number;
}

export interface VerifyProgress {
  /** 0..1, by bytes of the shards. */
  readonly fraction: number;
  /** Bytes on disk checked so far. */
  readonly bytes: number;
  /** Number of finished shards. */
  readonly shards: number;
  readonly videos: number;
  /** Number of problems in shards. Repeated IDs are found at the end. */
  readonly problems: number;
}

/** A record: its shard and its index in the shard, from 0. */
export interface ShardRecord {
  readonly path: string;
  readonly record: number;
}

/** An ID and the records that have it, in the list's order. */
export interface RepeatedId {
  /** As returned by `decodeBytes`. */
  readonly id: string;
  readonly records: readonly ShardRecord[];
}

export interface Verification {
  /** Whether the signal aborted the check before its end. */
  readonly stopped: boolean;
  /** All shards, in the list's order. */
  readonly shards: readonly ShardResult[];
  /** Number of records with the ID of an earlier record. */
  readonly repeatedRecords: number;
  /** Repeated IDs, ordered by their first record; at most MAX_LISTED_REPEATS. */
  readonly repeats: readonly RepeatedId[];
}

/** The results for a shard so far. */
export class ShardResult {
  readonly path: string;
  readonly sizeBytes: number;
  /** Bytes of the file checked so far; an estimate for a compressed file. */
  checkedBytes = 0;
  records = 0;
  videos = 0;
  frames = 0;
  unlabeled = 0;
  /** Videos with segment labels, which are not used. */
  segmented = 0;
  /** "unread": its end was not reached; "whole": read to its end; "broken": the rest after the last record cannot be read. */
  state: "unread" | "whole" | "broken" = "unread";
  /** Problems, at most MAX_LISTED_PROBLEMS. */
  readonly listed: SerializedError[] = [];
  /** Number of problems by code, listed or not. */
  readonly problems = new Map<ErrorCode, number>();

  constructor(path: string, sizeBytes: number) {
    this.path = path;
    this.sizeBytes = sizeBytes;
  }

  get problemCount(): number {
    return [...this.problems.values()].reduce((sum, count) => sum + count, 0);
  }

  add(piece: ShardPiece): void {
    this.records += piece.records;
    this.videos += piece.videos;
    this.frames += piece.frames;
    this.unlabeled += piece.unlabeled;
    this.segmented += piece.segmented;
    this.listed.push(...piece.listed);
    for (const [code, count] of Object.entries(piece.problems)) this.#count(code as ErrorCode, count);
    this.checkedBytes = piece.state === "end" ? this.sizeBytes : piece.filePosition;
    if (piece.state === "end") this.state = "whole";
    if (piece.state === "broken") this.state = "broken";
  }

  /** Records the error of the thread that was reading the shard. */
  fail(error: NextvladError): void {
    this.listed.push(serializeError(error));
    this.#count(error.code, 1);
    this.state = "broken";
  }

  #count(code: ErrorCode, count: number): void {
    this.problems.set(code, (this.problems.get(code) ?? 0) + count);
  }
}

const VERIFY_MODULE = new URL("./verify-worker.js", import.meta.url);

/**
 * Checks every record of every shard, in threads, and finds repeated IDs. Problems of shards, even that one cannot be opened, are in the result and not thrown.
 */
export async function verifyShards(list: readonly Shard[], options: VerifyOptions, module = VERIFY_MODULE): Promise<Verification> {
  const threads = Math.min(options.readers, list.length);
  requireProcessLimits({ threads }, "use fewer --readers");
  const shards = list.map(({ path, bytes }) => new ShardResult(path, bytes));
  const verifier = new Verifier(shards, options, module);
  await Promise.all(Array.from({ length: threads }, () => verifier.runThreads()));
  return verifier.result();
}

/** Consecutive records of a shard: the shard's index, the first record's index in the shard, and the offset of its ID in the ID table. */
interface RecordRange {
  readonly shard: number;
  readonly record: number;
  readonly offset: number;
}

/** A record: the index of its shard, and its index in the shard. */
type RecordIndex = Pick<RecordRange, "shard" | "record">;

class Verifier {
  readonly #shards: readonly ShardResult[];
  readonly #options: VerifyOptions;
  readonly #module: URL;
  readonly #totalBytes: number;
  readonly #ids = new IdTable();
  readonly #ranges: RecordRange[] = [];
  readonly #done = { bytes: 0, shards: 0, videos: 0, problems: 0 };
  /** Shards that are not assigned to a thread yet. */
  readonly #unassigned: number[];

  constructor(shards: readonly ShardResult[], options: VerifyOptions, module: URL) {
    this.#shards = shards;
    this.#options = options;
    this.#module = module;
    this.#unassigned = [...shards.keys()];
    this.#totalBytes = shards.reduce((sum, { sizeBytes }) => sum + sizeBytes, 1);
  }

  /** Checks one shard after another in a thread until none is left. If the thread dies, a new one continues with the next shard. */
  async runThreads(): Promise<void> {
    while (this.#hasUnassigned) await this.#runThread();
  }

  get #hasUnassigned(): boolean {
    return this.#unassigned.length > 0 && !this.#options.signal.aborted;
  }

  async #runThread(): Promise<void> {
    const { shape, signal, onSlow, slowMs } = this.#options;
    let finish = (): void => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    /** The thread's shards: the current one first. */
    const assigned: number[] = [];
    // After the signal, no results are expected while the thread closes its file.
    const warn = (waitedMs: number): void => {
      if (!signal.aborted) onSlow?.(this.#path(assigned[0] as number), waitedMs);
    };
    const watch = new SlowWatch(warn, slowMs);
    const thread = startWorker<VerifyRequest, ShardPiece>(this.#module, shape, {
      onMessage: (piece) => {
        watch.start();
        this.#addPiece(assigned[0] as number, piece);
        if (piece.state === "more") return;
        assigned.shift();
        assign();
        if (assigned.length === 0) finish();
      },
      onExit: (exit) => {
        this.#onWorkerExit(assigned.shift() as number, exit);
        this.#unassigned.unshift(...assigned);
        finish();
      },
    });
    const assign = (): void => {
      while (assigned.length < QUEUED_SHARDS && this.#hasUnassigned) {
        const shard = this.#unassigned.shift() as number;
        assigned.push(shard);
        thread.post({ path: this.#path(shard) });
      }
    };
    assign();
    watch.start();
    signal.addEventListener("abort", finish);
    await finished;
    signal.removeEventListener("abort", finish);
    await thread.stop();
    watch.stop();
  }

  #path(shard: number): string {
    return (this.#shards[shard] as ShardResult).path;
  }

  #addPiece(index: number, piece: ShardPiece): void {
    const shard = this.#shards[index] as ShardResult;
    this.#ranges.push({ shard: index, record: shard.records, offset: this.#ids.add(piece.ids) });
    const before = { bytes: shard.checkedBytes, problems: shard.problemCount };
    shard.add(piece);
    this.#done.bytes += shard.checkedBytes - before.bytes;
    this.#done.problems += shard.problemCount - before.problems;
    this.#done.videos += piece.videos;
    if (piece.state !== "more") this.#done.shards++;
    this.#reportProgress();
  }

  #onWorkerExit(index: number, exit: WorkerExit): void {
    const shard = this.#shards[index] as ShardResult;
    shard.fail(workerExitError("the checking thread", exit, [shard.path], "check this shard alone, and the machine's memory"));
    this.#done.problems++;
    this.#done.shards++;
    this.#reportProgress();
  }

  #reportProgress(): void {
    this.#options.onProgress?.({ ...this.#done, fraction: Math.min(1, this.#done.bytes / this.#totalBytes) });
  }

  result(): Verification {
    const { records: repeatedRecords, groups } = this.#ids.findRepeats(MAX_LISTED_REPEATS);
    const repeats = groups.map((offsets) => ({
      id: decodeBytes(this.#ids.idAt(offsets[0] as number)),
      records: offsets.map((offset) => this.#locate(offset)).sort(compareRecords),
    }));
    repeats.sort((a, b) => compareRecords(a.records[0], b.records[0]));
    return {
      stopped: this.#options.signal.aborted && this.#done.shards < this.#shards.length,
      shards: this.#shards,
      repeatedRecords,
      repeats: repeats.map(({ id, records }) => ({
        id,
        records: records.map(({ shard, record }) => ({ path: this.#path(shard), record })),
      })),
    };
  }

  /** Locates the record of an ID, by binary search for the last range that starts at or before it. */
  #locate(offset: number): RecordIndex {
    let [low, high] = [0, this.#ranges.length];
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as RecordRange).offset <= offset) low = middle;
      else high = middle;
    }
    const range = this.#ranges[low] as RecordRange;
    return { shard: range.shard, record: range.record + this.#ids.countRecords(range.offset, offset) };
  }
}

function compareRecords(a: RecordIndex | undefined, b: RecordIndex | undefined): number {
  return (a?.shard ?? 0) - (b?.shard ?? 0) || (a?.record ?? 0) - (b?.record ?? 0);
}
