import type { FrameList } from "../formats/frame-list.js";

/** Statistics of a feature's uint8 values over a shard. */
export class FeatureStatistics {
  /** Number of occurrences of each byte value. */
  readonly #counts = new Float64Array(256);
  /** Number of videos by bytes per frame. */
  readonly #sizes = new Map<number, number>();
  #videos = 0;

  /** Adds a video's frames, of `frameBytes` bytes each. */
  add({ data, frameBytes }: Pick<FrameList, "data" | "frameBytes">): void {
    this.#videos++;
    this.#sizes.set(frameBytes, (this.#sizes.get(frameBytes) ?? 0) + 1);
    const lanes = LANES.fill(0);
    for (let i = 0; i < data.length; i++) increment(lanes, 256 * (i & 3) + (data[i] as number));
    for (let i = 0; i < lanes.length; i++) this.#counts[i & 255] = (this.#counts[i & 255] as number) + (lanes[i] as number);
  }

  /** Returns the statistics; mean, standard deviation, range and shares are null if there are no bytes. */
  summary() {
    const counts = Array.from(this.#counts);
    const sum = (term: (value: number) => number): number => counts.reduce((total, count, value) => total + count * term(value), 0);
    const bytes = sum(() => 1);
    const mean = sum((value) => value) / bytes;
    const there = bytes > 0;
    return {
      videos: this.#videos,
      bytes,
      /** Number of videos by bytes per frame. */
      frame_bytes: Object.fromEntries(this.#sizes),
      mean: there ? mean : null,
      standard_deviation: there ? Math.sqrt(sum((value) => (value - mean) ** 2) / bytes) : null,
      min: there ? counts.findIndex((count) => count > 0) : null,
      max: there ? counts.findLastIndex((count) => count > 0) : null,
      /** Shares of the bytes at either end of the range, where quantization clipped. */
      share_of_0: there ? (counts[0] as number) / bytes : null,
      share_of_255: there ? (counts[255] as number) / bytes : null,
      /** Number of occurrences of each value, 0 to 255. */
      histogram: counts,
    };
  }
}

/** Four counters per value, used in turn: with one, increments for runs of equal bytes would depend on each other. */
const LANES = new Uint32Array(4 * 256);

function increment(counts: Uint32Array, index: number): void {
  counts[index] = (counts[index] as number) + 1;
}
