import { stat } from "node:fs/promises";
import { decodeBytes } from "../base/byte-text.js";
import { requireProcessLimits } from "../base/process-limits.js";
import { SlowWatch } from "../base/slow-watch.js";
import { deathError, startThread, type ThreadDeath } from "../data/thread.js";
import type { VideoShape } from "../data/video-check.js";
import { IdTable } from "./id-table.js";
import type { ShardPiece } from "./shard-check.js";
import { ShardTally } from "./shard-tally.js";
import type { VerifyRequest } from "./verify-worker.js";

/** Shards queued per thread: the current one, and the next one, so that the thread does not wait for it. */
const SHARDS_AHEAD = 2;
/** Maximum number of repeated IDs that are listed; all records with a repeated ID are counted. */
const LISTED_REPEATS = 10_000;

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
  /** Number of problems in shards, and of records that repeat an ID. */
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
  readonly shards: readonly ShardTally[];
  /** Number of records whose ID an earlier record has. */
  readonly repeatedRecords: number;
  readonly repeats: readonly RepeatedId[];
}

const VERIFY_MODULE = new URL("./verify-worker.js", import.meta.url);

/**
 * Checks every record of every shard, in threads, and finds repeated IDs. Problems of shards, even that one cannot be opened, are in the result and not thrown.
 */
export async function verifyShards(paths: readonly string[], options: VerifyOptions, module = VERIFY_MODULE): Promise<Verification> {
  const size = (path: string): Promise<number> =>
    stat(path).then(
      (found) => found.size,
      () => 0,
    );
  requireProcessLimits({ threads: Math.min(options.readers, paths.length) }, "use fewer --readers");
  const shards = await Promise.all(paths.map(async (path) => new ShardTally(path, await size(path))));
  const run = new VerificationRun(shards, options, module);
  await Promise.all(Array.from({ length: Math.min(options.readers, shards.length) }, () => run.runThread()));
  return run.result();
}

/** Consecutive records of a shard that arrived together: the shard's index, and the first record's index in the shard and in the ID table. */
interface Arrival {
  readonly shard: number;
  readonly record: number;
  readonly number: number;
}

class VerificationRun {
  readonly #shards: readonly ShardTally[];
  readonly #options: VerifyOptions;
  readonly #module: URL;
  readonly #totalBytes: number;
  readonly #ids = new IdTable();
  readonly #arrivals: Arrival[] = [];
  /** The records that share an ID, by the first of them that arrived. */
  readonly #repeats = new Map<number, number[]>();
  readonly #done = { bytes: 0, shards: 0, videos: 0, problems: 0 };
  #repeatedRecords = 0;
  /** Shards that are not assigned to a thread yet. */
  readonly #unread: number[];

  constructor(shards: readonly ShardTally[], options: VerifyOptions, module: URL) {
    this.#shards = shards;
    this.#options = options;
    this.#module = module;
    this.#unread = [...shards.keys()];
    this.#totalBytes = shards.reduce((sum, { sizeBytes }) => sum + sizeBytes, 1);
  }

  get #hasMore(): boolean {
    return this.#unread.length > 0 && !this.#options.signal.aborted;
  }

  /** Checks one shard after another in a thread until none is left. If the thread dies, a new one continues with the next shard. */
  async runThread(): Promise<void> {
    const { shape, signal, onSlow, slowMs } = this.#options;
    while (this.#hasMore) {
      let end = (): void => {};
      const ended = new Promise<void>((resolve) => {
        end = resolve;
      });
      const asked: number[] = [];
      // After the signal, no results are expected while the thread closes its file.
      const warn = (waitedMs: number): void => {
        if (!signal.aborted) onSlow?.(this.#path(asked[0] as number), waitedMs);
      };
      const watch = new SlowWatch(warn, slowMs);
      const thread = startThread<VerifyRequest, ShardPiece>(this.#module, shape, {
        message: (piece) => {
          watch.begin();
          this.#take(asked[0] as number, piece);
          if (piece.state === "more") return;
          asked.shift();
          ask();
          if (asked.length === 0) end();
        },
        died: (how) => {
          this.#bury(asked.shift() as number, how);
          this.#unread.unshift(...asked);
          end();
        },
      });
      const ask = (): void => {
        while (asked.length < SHARDS_AHEAD && this.#hasMore) {
          const shard = this.#unread.shift() as number;
          asked.push(shard);
          thread.post({ path: this.#path(shard) });
        }
      };
      ask();
      watch.begin();
      signal.addEventListener("abort", end);
      await ended;
      signal.removeEventListener("abort", end);
      await thread.stop();
      watch.end();
    }
  }

  #path(shard: number): string {
    return (this.#shards[shard] as ShardTally).path;
  }

  #take(index: number, piece: ShardPiece): void {
    const shard = this.#shards[index] as ShardTally;
    this.#arrivals.push({ shard: index, record: shard.records, number: this.#ids.records });
    this.#ids.add(piece.ids, (number, first) => this.#noteRepeat(number, first));
    const before = { bytes: shard.checkedBytes, problems: shard.problemCount };
    shard.add(piece);
    this.#done.bytes += shard.checkedBytes - before.bytes;
    this.#done.problems += shard.problemCount - before.problems;
    this.#done.videos += piece.videos;
    if (piece.state !== "more") this.#done.shards++;
    this.#tell();
  }

  #bury(index: number, how: ThreadDeath): void {
    const shard = this.#shards[index] as ShardTally;
    shard.fail(deathError("the thread that checked it", how, [shard.path], "check this shard alone, and the machine's memory"));
    this.#done.problems++;
    this.#done.shards++;
    this.#tell();
  }

  #noteRepeat(number: number, first: number): void {
    this.#repeatedRecords++;
    this.#done.problems++;
    const numbers = this.#repeats.get(first);
    if (numbers !== undefined) numbers.push(number);
    else if (this.#repeats.size < LISTED_REPEATS) this.#repeats.set(first, [first, number]);
  }

  #tell(): void {
    this.#options.onProgress?.({ ...this.#done, fraction: Math.min(1, this.#done.bytes / this.#totalBytes) });
  }

  result(): Verification {
    const repeats = Array.from(this.#repeats, ([first, numbers]) => {
      const places = numbers.map((number) => this.#placeOf(number)).sort((a, b) => a.shard - b.shard || a.record - b.record);
      return { id: decodeBytes(this.#ids.idOf(first)), places };
    });
    const byFirstPlace = repeats.sort(({ places: [a] }, { places: [b] }) => comparePlaces(a, b));
    return {
      stopped: this.#options.signal.aborted && this.#done.shards < this.#shards.length,
      shards: this.#shards,
      repeatedRecords: this.#repeatedRecords,
      repeats: byFirstPlace.map(({ id, places }) => ({
        id,
        records: places.map(({ shard, record }) => ({ path: this.#path(shard), record })),
      })),
    };
  }

  /** Returns the position of a record of the ID table, by binary search for the last arrival that starts at or before it. */
  #placeOf(number: number): Place {
    let [low, high] = [0, this.#arrivals.length];
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((this.#arrivals[middle] as Arrival).number <= number) low = middle;
      else high = middle;
    }
    const arrival = this.#arrivals[low] as Arrival;
    return { shard: arrival.shard, record: arrival.record + number - arrival.number };
  }
}

type Place = Pick<Arrival, "shard" | "record">;

function comparePlaces(a: Place | undefined, b: Place | undefined): number {
  return (a?.shard ?? 0) - (b?.shard ?? 0) || (a?.record ?? 0) - (b?.record ?? 0);
}
