import { JoinedSlab, SlabPool } from "./slab.js";
import type { RaggedBatch, Video } from "./video.js";

/** The memory of a batch that is done with: of rgb, then of audio. */
export type BatchMemory = readonly [ArrayBuffer, ArrayBuffer];

export function memoryOf({ rgb, audio }: RaggedBatch): BatchMemory {
  return [rgb.buffer as ArrayBuffer, audio.buffer as ArrayBuffer];
}

/** Puts videos back to back into batches: one copy of their bytes, into memory of earlier batches where that was given back. */
export class BatchBuilder {
  readonly #pools = [new SlabPool(), new SlabPool()] as const;
  readonly #rgb = new JoinedSlab(this.#pools[0]);
  readonly #audio = new JoinedSlab(this.#pools[1]);
  #ids: string[] = [];
  #frameCounts: number[] = [];
  #labels: Int32Array[] = [];

  /** Videos so far. */
  get size(): number {
    return this.#ids.length;
  }

  /** Copies the video's bytes: its memory may be used anew at once. */
  add({ id, frames, rgb, audio, labels }: Video): void {
    this.#ids.push(id);
    this.#frameCounts.push(frames);
    this.#labels.push(labels);
    this.#rgb.append(rgb);
    this.#audio.append(audio);
  }

  /** The batch of all videos so far; the next one begins. */
  take(): RaggedBatch {
    const batch = {
      ids: this.#ids,
      frameCounts: Int32Array.from(this.#frameCounts),
      rgb: this.#rgb.take(),
      audio: this.#audio.take(),
      labels: this.#labels,
    };
    this.#ids = [];
    this.#frameCounts = [];
    this.#labels = [];
    return batch;
  }

  /** Forgets the videos so far. */
  clear(): void {
    this.take();
  }

  giveBack(memory: BatchMemory): void {
    for (const [i, pool] of this.#pools.entries()) pool.giveBack(memory[i as 0 | 1]);
  }
}
