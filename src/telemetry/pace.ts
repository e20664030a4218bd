import type { ProgressState } from "./progress.js";

/** A stream of batches whose pace is measured. */
export interface PacedStream {
  /** Fraction that was read, 0 to 1. */
  readonly fraction: number;
  /** Milliseconds spent waiting for data. */
  readonly waitedMs: number;
}

/** Measures a loop over a stream: videos per second, remaining time, and the share of time spent waiting for data. */
export class Pace {
  readonly #stream: PacedStream;
  readonly #startMs = performance.now();
  /** The share of a longer run that comes before this stream, and the share of the stream itself. */
  readonly #before: number;
  readonly #share: number;
  readonly #startFraction: number;
  #videos = 0;

  /** `part` is the position of the stream in a longer run: epoch 2 of 6 is `{ index: 2, count: 6 }`. `startFraction` of the stream was processed before. */
  constructor(stream: PacedStream, part = { index: 0, count: 1 }, startFraction = 0) {
    this.#stream = stream;
    this.#startFraction = startFraction;
    this.#before = part.index / part.count;
    this.#share = 1 / part.count;
  }

  /** Adds a finished batch. */
  count(videos: number): void {
    this.#videos += videos;
  }

  state(): ProgressState & { readonly waitShare: number } {
    const seconds = (performance.now() - this.#startMs) / 1000;
    const { fraction, waitedMs } = this.#stream;
    const done = (fraction - this.#startFraction) * this.#share;
    const total = this.#before + fraction * this.#share;
    return {
      fraction: total,
      videosPerSecond: this.#videos / seconds,
      secondsLeft: done > 0 ? (seconds / done) * (1 - total) : Number.POSITIVE_INFINITY,
      waitShare: Math.min(1, waitedMs / 1000 / seconds),
    };
  }

  /** Returns the state for the JSON log. */
  facts(): { readonly videos_per_second: number; readonly seconds_left: number; readonly wait_share: number } {
    const { videosPerSecond, secondsLeft, waitShare } = this.state();
    return { videos_per_second: videosPerSecond, seconds_left: secondsLeft, wait_share: waitShare };
  }

  /** Formats the state: "312.4 videos/s, 3 % waiting for data". */
  describe(): string {
    const { videosPerSecond, waitShare } = this.state();
    return `${videosPerSecond.toFixed(1)} videos/s, ${(100 * waitShare).toFixed(0)} % waiting for data`;
  }
}
