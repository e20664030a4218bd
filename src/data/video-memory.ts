import { allocateUnpooled } from "../formats/protobuf/feature-list.js";
import type { Video } from "./video.js";

/** Buffer sizes are rounded up to multiples of this, so that a buffer can be reused for a video of similar length. */
const STEP_BYTES = 32 * 1024;

/** Pool of buffers, one per video, for videos that are held for a long time (in the shuffle buffer). */
export class VideoMemory {
  /** Free buffers, by size in bytes. */
  readonly #free = new Map<number, ArrayBuffer[]>();

  /** Returns a copy of the video in a buffer from the pool. */
  keep(video: Video): Video {
    const rgbBytes = video.rgb.length;
    const memory = this.#draw(Math.ceil((rgbBytes + video.audio.length) / STEP_BYTES) * STEP_BYTES);
    const rgb = new Uint8Array(memory, 0, rgbBytes);
    const audio = new Uint8Array(memory, rgbBytes, video.audio.length);
    rgb.set(video.rgb);
    audio.set(video.audio);
    return { ...video, rgb, audio };
  }

  /** Returns a copied video's buffer to the pool. The video's bytes must not be used afterwards. */
  giveBack({ rgb }: Video): void {
    const memory = rgb.buffer as ArrayBuffer;
    const free = this.#free.get(memory.byteLength) ?? [];
    free.push(memory);
    this.#free.set(memory.byteLength, free);
  }

  #draw(bytes: number): ArrayBuffer {
    return this.#free.get(bytes)?.pop() ?? (allocateUnpooled(bytes).buffer as ArrayBuffer);
  }
}
