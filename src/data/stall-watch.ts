import { listFirst } from "../base/problem-list.js";
import { DISK_QUESTION, formatSeconds, SlowWatch } from "../base/waiting.js";
import type { OpenShard } from "./reader-pool.js";

/** Time limit for the batch thread's reply; a live thread replies immediately. */
const REPLY_MS = 1000;
const NAMED_SHARDS = 8;
/** Data that arrived within this time indicate that more will follow. */
const ACTIVE_MS = 10_000;

/** A long wait for data. */
export interface Stall {
  readonly waitedMs: number;
  /** The open shards, the longest-awaited first; null if the batch thread does not reply. */
  readonly shards: readonly OpenShard[] | null;
}

/** Warns about slow waits for batches, like `SlowWatch`, and requests the open shards from the batch thread before each warning. */
export class StallWatch {
  readonly #watch: SlowWatch;
  readonly #report: (stall: Stall) => void;
  #replyTimer: NodeJS.Timeout | undefined;
  #waitedMs = 0;

  /** `requestShards` requests the open shards; the caller passes the reply to `onReply`. */
  constructor(afterMs: number, requestShards: () => void, report: (stall: Stall) => void) {
    this.#report = report;
    this.#watch = new SlowWatch((waitedMs) => {
      this.#waitedMs = waitedMs;
      this.#replyTimer = setTimeout(() => this.onReply(null), REPLY_MS);
      requestShards();
    }, afterMs);
  }

  begin(): void {
    this.#watch.start();
  }

  end(): void {
    this.#watch.stop();
    clearTimeout(this.#replyTimer);
    this.#replyTimer = undefined;
  }

  onReply(shards: readonly OpenShard[] | null): void {
    if (this.#replyTimer === undefined) return;
    clearTimeout(this.#replyTimer);
    this.#replyTimer = undefined;
    this.#report({ waitedMs: this.#waitedMs, shards });
  }
}

/** Formats a stall: which shards are awaited, and for how long. */
export function describeStall({ waitedMs, shards }: Stall): string {
  const what = `no batch for ${formatSeconds(waitedMs)}`;
  if (shards === null) return `${what}, and the batch thread does not reply`;
  if (shards.length === 0) return `${what}, and no shard is open`;
  const active = shards.find(({ quietMs }) => quietMs !== null && quietMs < Math.min(ACTIVE_MS, waitedMs / 2));
  if (active !== undefined) {
    return `${what}, but data arrives, most recently from ${active.path}: a run that resumes inside an epoch first skips what it has processed`;
  }
  return `${what}: ${listFirst(shards.map(describeShard), { separator: "; ", shown: NAMED_SHARDS })}. ${DISK_QUESTION}`;
}

function describeShard({ path, openMs, quietMs, waitedMs }: OpenShard): string {
  const state = waitedMs === null ? "open" : `waited for ${formatSeconds(waitedMs)}`;
  const read =
    quietMs === null ? `nothing read since it was opened ${formatSeconds(openMs)} ago` : `last read ${formatSeconds(quietMs)} ago`;
  return `${path} (${state}, ${read})`;
}
