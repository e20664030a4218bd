/** Default time after which a wait is reported; the operations in question normally take seconds. */
export const SLOW_MS = 60_000;
/** Maximum time between two reports. */
const LONGEST_PAUSE_MS = 3_600_000;

/** Warns about slow waits, one at a time, with exponential back-off: after `afterMs`, then each time the wait has doubled, and at least every hour. */
export class SlowWatch {
  readonly #tell: (waitedMs: number) => void;
  readonly #afterMs: number;
  #timer: NodeJS.Timeout | undefined;
  #startMs = 0;

  constructor(tell: (waitedMs: number) => void, afterMs = SLOW_MS) {
    this.#tell = tell;
    this.#afterMs = afterMs;
  }

  /** Starts a wait, and ends the previous one. */
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

/** Formats the warning about a wait for the disk that may never end. `what` is like "no data from shard.tfrecord". */
export function describeWait(what: string, waitedMs: number): string {
  return `${what} for ${showSeconds(waitedMs)}. ${ASK_THE_DISK}`;
}

export const ASK_THE_DISK = "Does the disk or the network file system answer?";

export function showSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}
