import type { OpenShard } from "./reader-pool.js";

/** After so long without a batch, somebody should be told. */
export const STALL_MS = 60_000;
/** The longest time from one telling to the next. */
const LONGEST_PAUSE_MS = 3_600_000;
/** A thread that is alive answers at once. */
const ANSWER_MS = 1000;
const NAMED_SHARDS = 8;
/** Data that came so recently are a sign that more will. */
const FLOWING_MS = 10_000;

/** A wait for data that goes on and on. */
export interface Stall {
  readonly waitedMs: number;
  /** What is being read, what is waited for first; null where the thread that knows does not answer. */
  readonly shards: readonly OpenShard[] | null;
}

/** Watches waits: one that lasts is told once it has lasted `afterMs`, and again each time it has become twice as long, each hour at least. */
export class StallWatch {
  readonly #afterMs: number;
  readonly #inquire: () => void;
  readonly #tell: (stall: Stall) => void;
  #timer: NodeJS.Timeout | undefined;
  #answerTimer: NodeJS.Timeout | undefined;
  #startMs = 0;

  /** `inquire` is to ask what is being read, and `answer` to be called with what comes back. */
  constructor(afterMs: number, inquire: () => void, tell: (stall: Stall) => void) {
    this.#afterMs = afterMs;
    this.#inquire = inquire;
    this.#tell = tell;
  }

  begin(): void {
    this.#startMs = performance.now();
    this.#arm(this.#afterMs, this.#afterMs);
  }

  end(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#answerTimer);
    this.#answerTimer = undefined;
  }

  answer(shards: readonly OpenShard[] | null): void {
    if (this.#answerTimer === undefined) return;
    clearTimeout(this.#answerTimer);
    this.#answerTimer = undefined;
    this.#tell({ waitedMs: performance.now() - this.#startMs, shards });
  }

  #arm(pauseMs: number, lastedMs: number): void {
    this.#timer = setTimeout(() => {
      this.#answerTimer = setTimeout(() => this.answer(null), ANSWER_MS);
      this.#inquire();
      this.#arm(Math.min(lastedMs, LONGEST_PAUSE_MS), lastedMs + Math.min(lastedMs, LONGEST_PAUSE_MS));
    }, pauseMs);
  }
}

/** Says what is waited for, and since when. */
export function describeStall({ waitedMs, shards }: Stall): string {
  const lead = `no batch has come for ${seconds(waitedMs)}`;
  if (shards === null) return `${lead}, and the thread that makes batches does not answer`;
  if (shards.length === 0) return `${lead}, and no shard is open`;
  const flowing = shards.find(({ quietMs }) => quietMs !== null && quietMs < Math.min(FLOWING_MS, waitedMs / 2));
  if (flowing !== undefined) {
    return `${lead}, but data are coming in, the last from ${flowing.path}: a run that goes on inside an epoch first reads past what it has seen`;
  }
  const named = shards.slice(0, NAMED_SHARDS).map(describeShard);
  const more = shards.length > named.length ? `; and ${shards.length - named.length} more` : "";
  return `${lead}: ${named.join("; ")}${more}. Does the disk or the network file system answer?`;
}

function describeShard({ path, openMs, quietMs, waitedMs }: OpenShard): string {
  const state = waitedMs === null ? "open" : `waited for since ${seconds(waitedMs)}`;
  const read = quietMs === null ? `nothing read in the ${seconds(openMs)} since it was opened` : `last read ${seconds(quietMs)} ago`;
  return `${path} (${state}, ${read})`;
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
