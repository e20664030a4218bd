import { ownMemory } from "../formats/frame-list.js";
import type { Video } from "./video.js";

/** Lengths are rounded up to multiples of this, so that the memory of one video does for another of nearly its length. */
const STEP_BYTES = 32 * 1024;

/** Memory for videos that wait long, each for itself: that of one that has left takes in another. */
export class VideoMemory {
  /** What is free, by its length. */
  readonly #free = new Map<number, ArrayBuffer[]>();

  /** The same video with its bytes copied. */
  keep(video: Video): Video {
    const rgbBytes = video.rgb.length;
    const memory = this.#draw(Math.ceil((rgbBytes + video.audio.length) / STEP_BYTES) * STEP_BYTES);
    const rgb = new Uint8Array(memory, 0, rgbBytes);
    const audio = new Uint8Array(memory, rgbBytes, video.audio.length);
    rgb.set(video.rgb);
    audio.set(video.audio);
    return { ...video, rgb, audio };
  }

  /** Takes back the memory of a video that was kept, whose bytes nobody reads any more. */
  giveBack({ rgb }: Video): void {
    const memory = rgb.buffer as ArrayBuffer;
    const free = this.#free.get(memory.byteLength) ?? [];
    free.push(memory);
    this.#free.set(memory.byteLength, free);
  }

  #draw(bytes: number): ArrayBuffer {
    return this.#free.get(bytes)?.pop() ?? (ownMemory(bytes).buffer as ArrayBuffer);
  }
}
