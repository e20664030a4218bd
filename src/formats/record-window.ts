import type { ByteSource, RecordPlace } from "./byte-source.js";
import { isCounted, releaseRecord, reserveRecord } from "./record-budget.js";

/** Large enough to amortize a system call, small enough to keep a shard's reader in the CPU cache. */
const WINDOW_BYTES = 2 * 2 ** 20;

/** Buffers of closed windows, reused by this thread's next ones: a new buffer per shard costs clearing 2 MB and garbage collection. */
const spare: Uint8Array[] = [];
const MOST_SPARE = 16;

/** An ArrayBuffer that grows and shrinks in place (ES2024): shrinking frees memory at once, without waiting for the garbage collector. */
type ResizableBuffer = ArrayBuffer & { resize(bytes: number): void };
const ResizableBuffer = ArrayBuffer as unknown as new (bytes: number, options: { readonly maxByteLength: number }) => ResizableBuffer;

/** A window over a source's bytes in one reused buffer: `fill` moves the remaining bytes to the buffer's start and reads more after them. */
export class RecordWindow {
  readonly #source: ByteSource;
  #buffer: Uint8Array = spare.pop() ?? new Uint8Array(WINDOW_BYTES);
  #view = new DataView(this.#buffer.buffer);
  #start = 0;
  #end = 0;
  #offset = 0;
  /** Memory for a long record, reserved from the budget of all threads. */
  #reserved: { readonly buffer: ResizableBuffer; readonly bytes: number } | null = null;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Bytes in the window. */
  get available(): number {
    return this.#end - this.#start;
  }

  /** Offset of the window's start in the source. */
  get offset(): number {
    return this.#offset;
  }

  /** Reads until the window has `bytes` bytes or the source ends. The buffer doubles only as bytes arrive, regardless of the requested length. */
  async fill(bytes: number, at: RecordPlace): Promise<void> {
    if (isCounted(bytes)) await this.#reserve(bytes);
    if (this.#start + bytes > this.#buffer.length) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    while (this.available < bytes) {
      if (this.#end === this.#buffer.length) this.#grow(bytes);
      const read = await this.#source.read(this.#buffer.subarray(this.#end), at);
      if (read === 0) return;
      this.#end += read;
    }
  }

  /** Moves the window into memory reserved from the budget for a record of this length. */
  async #reserve(bytes: number): Promise<void> {
    this.#unreserve();
    await reserveRecord(bytes);
    const held = this.#buffer.subarray(this.#start, this.#end);
    const buffer = new ResizableBuffer(Math.max(WINDOW_BYTES, held.length), { maxByteLength: bytes });
    new Uint8Array(buffer).set(held);
    this.#reserved = { buffer, bytes };
    this.#hold(new Uint8Array(buffer, 0, buffer.byteLength));
    this.#start = 0;
    this.#end = held.length;
  }

  #unreserve(): void {
    if (this.#reserved === null) return;
    const { buffer, bytes } = this.#reserved;
    this.#reserved = null;
    const rest = this.#buffer.slice(this.#start, this.#end);
    buffer.resize(0);
    releaseRecord(bytes);
    this.#hold(new Uint8Array(Math.max(WINDOW_BYTES, rest.length)));
    this.#buffer.set(rest);
    this.#start = 0;
    this.#end = rest.length;
  }

  #grow(bytes: number): void {
    const length = Math.min(this.#buffer.length * 2, Math.max(bytes, WINDOW_BYTES));
    if (this.#reserved === null) {
      const larger = new Uint8Array(length);
      larger.set(this.#buffer);
      this.#hold(larger);
    } else {
      this.#reserved.buffer.resize(length);
      this.#hold(new Uint8Array(this.#reserved.buffer, 0, length));
    }
  }

  #hold(buffer: Uint8Array): void {
    this.#buffer = buffer;
    this.#view = new DataView(buffer.buffer);
  }

  /** Returns the window's bytes `from`..`to`, not copied: valid until the next `fill`, `skip` or `close`. */
  slice(from: number, to: number): Uint8Array {
    return this.#buffer.subarray(this.#start + from, this.#start + to);
  }

  /** Returns the little-endian uint32 at byte `at` of the window. */
  uint32(at: number): number {
    return this.#view.getUint32(this.#start + at, true);
  }

  /** Releases the memory: data read through the window must not be used afterwards. */
  close(): void {
    this.#unreserve();
    if (this.#buffer.length === WINDOW_BYTES && spare.length < MOST_SPARE) spare.push(this.#buffer);
    this.#hold(new Uint8Array(0));
    this.#start = 0;
    this.#end = 0;
  }

  /** Moves the window's start forward. After a long record, frees its memory. */
  skip(bytes: number): void {
    this.#start += bytes;
    this.#offset += bytes;
    if (this.available <= WINDOW_BYTES) this.#unreserve();
  }
}
