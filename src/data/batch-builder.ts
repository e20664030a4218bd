import { JoinedSlab, SlabPool } from "./slab.js";
import type { RaggedBatch, Video } from "./video.js";

/** Memory of a used batch: of rgb, then of audio. */
export type BatchMemory = readonly [ArrayBuffer, ArrayBuffer];

export function memoryOf({ rgb, audio }: RaggedBatch): BatchMemory {
  return [rgb.buffer as ArrayBuffer, audio.buffer as ArrayBuffer];
}

/** Concatenates videos into batches. Their bytes are copied once, into memory of earlier batches if it was given back. */
export class BatchBuilder {
  readonly #pools = [new SlabPool(), new SlabPool()] as const;
  readonly #rgb = new JoinedSlab(this.#pools[0]);
  readonly #audio = new JoinedSlab(this.#pools[1]);
  #ids: string[] = [];
  #frameCounts: number[] = [];
  #labels: Int32Array[] = [];

  /** Number of videos in the current batch. */
  get size(): number {
    return this.#ids.length;
  }

  /** Appends a copy of the video; its own memory can be reused immediately. */
  add({ id, frames, rgb, audio, labels }: Video): void {
    this.#ids.push(id);
    this.#frameCounts.push(frames);
    this.#labels.push(labels);
    this.#rgb.append(rgb);
    this.#audio.append(audio);
  }

  /** Returns the batch of all videos added so far, and starts the next one. */
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

  /** Discards the videos added so far. */
  clear(): void {
    this.take();
  }

  giveBack(memory: BatchMemory): void {
    for (const [i, pool] of this.#pools.entries()) pool.giveBack(memory[i as 0 | 1]);
  }
}
