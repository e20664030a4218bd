/** After so long, somebody should be told: what is at hand takes seconds. */
export const SLOW_MS = 60_000;
/** The longest time from one telling to the next. */
const LONGEST_PAUSE_MS = 3_600_000;

/** Watches waits, one at a time: one that lasts is told once it has lasted `afterMs`, and again each time it has become twice as long, each hour at least. */
export class SlowWatch {
  readonly #tell: (waitedMs: number) => void;
  readonly #afterMs: number;
  #timer: NodeJS.Timeout | undefined;
  #startMs = 0;

  constructor(tell: (waitedMs: number) => void, afterMs = SLOW_MS) {
    this.#tell = tell;
    this.#afterMs = afterMs;
  }

  /** Begins a wait, and ends the one before. */
  begin(): void {
    this.end();
    this.#startMs = performance.now();
    this.#arm(this.#afterMs, this.#afterMs);
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  #arm(pauseMs: number, lastedMs: number): void {
    this.#timer = setTimeout(() => {
      this.#tell(performance.now() - this.#startMs);
      const nextMs = Math.min(lastedMs, LONGEST_PAUSE_MS);
      this.#arm(nextMs, lastedMs + nextMs);
    }, pauseMs);
  }
}

/** The line for a wait that may have no end, `what` being like "shard.tfrecord has given nothing": what it waits for is the disk's. */
export function describeWait(what: string, waitedMs: number): string {
  return `${what} for ${showSeconds(waitedMs)}. ${ASK_THE_DISK}`;
}

export const ASK_THE_DISK = "Does the disk or the network file system answer?";

export function showSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}
