import { type Allocate, allocateUnpooled } from "../formats/protobuf/feature-list.js";
import type { Video } from "./video.js";

/** New buffers are slightly larger than the largest size requested, because the next content rarely has exactly the same length. */
const HEADROOM = 1.1;
/** Allocations in an arena start at multiples of this, which makes copies faster. */
const ALIGNMENT = 64;

/**
 * A pool of large buffers that are passed between threads and reused. Fresh memory costs more than all processing of the bytes: it is faulted in and cleared
 * page by page, and a copy into it runs at 2.1 GB/s, into memory that was used before at 10 GB/s (measured).
 */
export class BufferPool {
  readonly #spare: ArrayBuffer[] = [];
  #minBytes = 0;

  /** Returns an unused buffer, at least as large as the largest size requested so far. */
  acquire(): ArrayBuffer {
    const buffer = this.#spare.pop();
    if (buffer !== undefined && buffer.byteLength >= this.#minBytes) return buffer;
    return allocateUnpooled(Math.ceil(this.#minBytes * HEADROOM)).buffer as ArrayBuffer;
  }

  /** Requests a minimum size in bytes for the next buffers. */
  requestSize(bytes: number): void {
    this.#minBytes = Math.max(this.#minBytes, bytes);
  }

  /** Returns a buffer to the pool. Drops an empty buffer, such as that of a block without videos. */
  release(buffer: ArrayBuffer): void {
    if (buffer.byteLength > 0) this.#spare.push(buffer);
  }
}

/** Allocates consecutive parts of a pool's buffer, which is passed on as a whole. */
export class Arena {
  readonly #pool: BufferPool;
  #buffer: ArrayBuffer | null = null;
  #filled = 0;
  #committed = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** Allocates bytes in the buffer, or in memory of their own if the buffer is full. */
  readonly allocate: Allocate = (bytes) => {
    this.#buffer ??= this.#pool.acquire();
    const start = this.#filled;
    this.#filled += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return start + bytes <= this.#buffer.byteLength ? new Uint8Array(this.#buffer, start, bytes) : allocateUnpooled(bytes);
  };

  /** Keeps all memory allocated so far. */
  commit(): void {
    this.#committed = this.#filled;
  }

  /** Frees what was allocated since the last `commit`: corrupt records must not take up space, however many there are. */
  readonly rollback = (): void => {
    this.#filled = this.#committed;
  };

  /** Returns the buffer. The next allocation starts another one. */
  take(): ArrayBuffer {
    const buffer = this.#buffer ?? new ArrayBuffer(0);
    this.#pool.requestSize(this.#filled);
    this.#buffer = null;
    this.#filled = 0;
    this.#committed = 0;
    return buffer;
  }
}

/** Concatenates arrays of bytes in a pool's buffer, which grows as needed. */
export class Concatenation {
  readonly #pool: BufferPool;
  #bytes: Uint8Array = new Uint8Array(0);
  #filled = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  append(part: Uint8Array): void {
    const end = this.#filled + part.length;
    if (end > this.#bytes.length) this.#grow(end);
    this.#bytes.set(part, this.#filled);
    this.#filled = end;
  }

  /** Returns the bytes appended so far. The next `append` starts another buffer. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.#filled);
    this.#pool.requestSize(this.#filled);
    this.#bytes = new Uint8Array(0);
    this.#filled = 0;
    return taken;
  }

  #grow(bytes: number): void {
    const pooled = this.#filled === 0 ? new Uint8Array(this.#pool.acquire()) : null;
    const larger = pooled !== null && pooled.length >= bytes ? pooled : allocateUnpooled(Math.max(bytes, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#filled));
    this.#bytes = larger;
  }
}

/** Sizes of the buffers of a `VideoPool` are multiples of this, so that a buffer can be reused for a video of similar length. */
const SIZE_STEP_BYTES = 32 * 1024;

/** A pool of buffers, one per video, for videos that stay in memory for a long time (in the shuffle buffer). */
export class VideoPool {
  /** Free buffers, by size in bytes. */
  readonly #free = new Map<number, ArrayBuffer[]>();

  /** Returns a copy of the video in a buffer from the pool. */
  copy(video: Video): Video {
    const rgbBytes = video.rgb.length;
    const buffer = this.#acquire(Math.ceil((rgbBytes + video.audio.length) / SIZE_STEP_BYTES) * SIZE_STEP_BYTES);
    const rgb = new Uint8Array(buffer, 0, rgbBytes);
    const audio = new Uint8Array(buffer, rgbBytes, video.audio.length);
    rgb.set(video.rgb);
    audio.set(video.audio);
    return { ...video, rgb, audio };
  }

  /** Returns a copy's buffer to the pool. The copy's bytes must not be used afterwards. */
  release({ rgb }: Video): void {
    const buffer = rgb.buffer as ArrayBuffer;
    const free = this.#free.get(buffer.byteLength) ?? [];
    free.push(buffer);
    this.#free.set(buffer.byteLength, free);
  }

  #acquire(bytes: number): ArrayBuffer {
    return this.#free.get(bytes)?.pop() ?? (allocateUnpooled(bytes).buffer as ArrayBuffer);
  }
}
