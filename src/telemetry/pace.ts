import type { ProgressState } from "./progress.js";

/** What a loop's pace is measured on: a stream of batches. */
export interface PacedStream {
  /** 0..1. */
  readonly fraction: number;
  /** Milliseconds spent waiting for data. */
  readonly waitedMs: number;
}

/** The speed of a loop over a stream: videos a second, time left, and how much of the time went into waiting for data. */
export class Pace {
  readonly #stream: PacedStream;
  readonly #startMs = performance.now();
  /** The share of a longer run that lies before this stream, and the share that it is. */
  readonly #before: number;
  readonly #share: number;
  readonly #startFraction: number;
  #videos = 0;

  /** `part` places the stream in a longer run: epoch 2 of 6 is `{ index: 2, count: 6 }`. `startFraction` of the stream was done before. */
  constructor(stream: PacedStream, part = { index: 0, count: 1 }, startFraction = 0) {
    this.#stream = stream;
    this.#startFraction = startFraction;
    this.#before = part.index / part.count;
    this.#share = 1 / part.count;
  }

  /** Notes that a batch is done. */
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

  /** The same for the JSON log. */
  facts(): { readonly videos_per_second: number; readonly seconds_left: number; readonly wait_share: number } {
    const { videosPerSecond, secondsLeft, waitShare } = this.state();
    return { videos_per_second: videosPerSecond, seconds_left: secondsLeft, wait_share: waitShare };
  }

  /** "312.4 videos/s, 3 % waiting for data". */
  describe(): string {
    const { videosPerSecond, waitShare } = this.state();
    return `${videosPerSecond.toFixed(1)} videos/s, ${(100 * waitShare).toFixed(0)} % waiting for data`;
  }
}
