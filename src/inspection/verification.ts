import { stat } from "node:fs/promises";
import { decodeBytes } from "../base/byte-text.js";
import { requireProcessLimits } from "../base/memory.js";
import { SlowWatch } from "../base/slow-watch.js";
import { deathError, startThread, type ThreadDeath } from "../data/thread.js";
import type { VideoShape } from "../data/video-check.js";
import { IdTable } from "./id-table.js";
import type { ShardPiece } from "./shard-check.js";
import { ShardTally } from "./shard-tally.js";
import type { VerifyRequest } from "./verify-worker.js";

/** Shards that a thread is given before they are done: the one that it checks, and one to go on with at once. */
const SHARDS_AHEAD = 2;
/** Ids that come more than once are listed up to this many; the records that repeat one are all counted. */
const LISTED_REPEATS = 10_000;

export interface VerifyOptions {
  readonly shape: VideoShape;
  /** Checking threads, 1 or more. */
  readonly readers: number;
  /** Aborted when the checking should end. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: VerifyProgress) => void;
  /** Nothing has come of a shard for so long: the disk may not answer. */
  readonly onSlow?: (path: string, waitedMs: number) => void;
  /** How long that is at first; a minute where it is not said. */
  readonly slowMs?: number;
}

export interface VerifyProgress {
  /** 0..1, by bytes of the shards. */
  readonly fraction: number;
  /** Bytes on disk that were checked. */
  readonly bytes: number;
  /** Shards that are done with. */
  readonly shards: number;
  readonly videos: number;
  /** Problems in shards, and records that repeat an id. */
  readonly problems: number;
}

/** A record, by its shard and its number in it, from 0. */
export interface ShardRecord {
  readonly path: string;
  readonly record: number;
}

/** An id and the records that have it, in the list's order. */
export interface RepeatedId {
  /** As `decodeBytes` gives it. */
  readonly id: string;
  readonly records: readonly ShardRecord[];
}

export interface Verification {
  /** Whether the signal came before the end. */
  readonly stopped: boolean;
  /** Each shard, in the list's order. */
  readonly shards: readonly ShardTally[];
  /** Records whose id another one before them has. */
  readonly repeatedRecords: number;
  readonly repeats: readonly RepeatedId[];
}

const VERIFY_MODULE = new URL("./verify-worker.js", import.meta.url);

/**
 * Checks every record of every shard, in threads, and looks for ids that come twice. What is wrong with a shard is in the result, even that it
 * cannot be opened; nothing is thrown for it.
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

/** Some consecutive records of a shard that arrived together: the first one's number in it, and in the id table. */
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
  /** The records that share an id, by the first of them that came. */
  readonly #repeats = new Map<number, number[]>();
  readonly #done = { bytes: 0, shards: 0, videos: 0, problems: 0 };
  #repeatedRecords = 0;
  /** Shards that no thread has been given. */
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

  /** Checks one shard after another in a thread, until none is left; where the thread dies over a shard, a new one goes on with the next. */
  async runThread(): Promise<void> {
    const { shape, signal, onSlow, slowMs } = this.#options;
    while (this.#hasMore) {
      let end = (): void => {};
      const ended = new Promise<void>((resolve) => {
        end = resolve;
      });
      const asked: number[] = [];
      // While a stopped thread closes its file, nobody waits for a shard any more.
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

  /** Where the record of that number in the id table stands: in the last arrival that begins at it or before. */
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
