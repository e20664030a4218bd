import { listFirst } from "../base/problem-list.js";
import { ASK_THE_DISK, SlowWatch, showSeconds } from "../base/slow-watch.js";
import type { OpenShard } from "./reader-pool.js";

/** Time limit for a thread's answer; a live thread answers immediately. */
const ANSWER_MS = 1000;
const NAMED_SHARDS = 8;
/** Data that arrived within this time indicate that more will follow. */
const FLOWING_MS = 10_000;

/** A long wait for data. */
export interface Stall {
  readonly waitedMs: number;
  /** The open shards, the longest-awaited first; null if the batch thread does not answer. */
  readonly shards: readonly OpenShard[] | null;
}

/** Warns about slow waits for batches, like `SlowWatch`, and asks the batch thread for its open shards before each warning. */
export class StallWatch {
  readonly #watch: SlowWatch;
  readonly #tell: (stall: Stall) => void;
  #answerTimer: NodeJS.Timeout | undefined;
  #waitedMs = 0;

  /** `inquire` requests the open shards; the caller passes the reply to `answer`. */
  constructor(afterMs: number, inquire: () => void, tell: (stall: Stall) => void) {
    this.#tell = tell;
    this.#watch = new SlowWatch((waitedMs) => {
      this.#waitedMs = waitedMs;
      this.#answerTimer = setTimeout(() => this.answer(null), ANSWER_MS);
      inquire();
    }, afterMs);
  }

  begin(): void {
    this.#watch.begin();
  }

  end(): void {
    this.#watch.end();
    clearTimeout(this.#answerTimer);
    this.#answerTimer = undefined;
  }

  answer(shards: readonly OpenShard[] | null): void {
    if (this.#answerTimer === undefined) return;
    clearTimeout(this.#answerTimer);
    this.#answerTimer = undefined;
    this.#tell({ waitedMs: this.#waitedMs, shards });
  }
}

/** Formats a stall: which shards are awaited, and for how long. */
export function describeStall({ waitedMs, shards }: Stall): string {
  const lead = `no batch has come for ${showSeconds(waitedMs)}`;
  if (shards === null) return `${lead}, and the thread that makes batches does not answer`;
  if (shards.length === 0) return `${lead}, and no shard is open`;
  const flowing = shards.find(({ quietMs }) => quietMs !== null && quietMs < Math.min(FLOWING_MS, waitedMs / 2));
  if (flowing !== undefined) {
    return `${lead}, but data are coming in, the last from ${flowing.path}: a run that goes on inside an epoch first reads past what it has seen`;
  }
  return `${lead}: ${listFirst(shards.map(describeShard), { separator: "; ", shown: NAMED_SHARDS })}. ${ASK_THE_DISK}`;
}

function describeShard({ path, openMs, quietMs, waitedMs }: OpenShard): string {
  const state = waitedMs === null ? "open" : `waited for since ${showSeconds(waitedMs)}`;
  const read =
    quietMs === null ? `nothing read in the ${showSeconds(openMs)} since it was opened` : `last read ${showSeconds(quietMs)} ago`;
  return `${path} (${state}, ${read})`;
}
