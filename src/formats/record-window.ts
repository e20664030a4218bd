import type { ByteSource, RecordPlace } from "./byte-source.js";
import { isCounted, releaseRecord, reserveRecord } from "./record-budget.js";

/** Large enough that a system call's cost vanishes, small enough that a shard's reader stays in the processor's cache. */
const WINDOW_BYTES = 2 * 2 ** 20;

/** Windows whose files are done with, for the thread's next ones: a fresh one a shard is 2 MB to clear and for the collector to find. */
const spare: Uint8Array[] = [];
const MOST_SPARE = 16;

/** An ArrayBuffer that grows and shrinks in place (ES2024): what it gives up is free at once, and not when the collector runs. */
type ResizableBuffer = ArrayBuffer & { resize(bytes: number): void };
const ResizableBuffer = ArrayBuffer as unknown as new (bytes: number, options: { readonly maxByteLength: number }) => ResizableBuffer;

/** A stretch of a source's bytes in one buffer that is used over and over: `fill` moves what is left to its start and reads on behind it. */
export class RecordWindow {
  readonly #source: ByteSource;
  #buffer: Uint8Array = spare.pop() ?? new Uint8Array(WINDOW_BYTES);
  #view = new DataView(this.#buffer.buffer);
  #start = 0;
  #end = 0;
  #offset = 0;
  /** For a long record: memory within the budget of all threads. */
  #reserved: { readonly buffer: ResizableBuffer; readonly bytes: number } | null = null;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Bytes at hand. */
  get available(): number {
    return this.#end - this.#start;
  }

  /** Where the window's start lies in the source. */
  get offset(): number {
    return this.#offset;
  }

  /** Reads until `bytes` are at hand or the source ends. The buffer doubles only as bytes do arrive, whatever length was asked for. */
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

  /** Goes on in memory of the budget, which a record of that length may fill. */
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

  /** The window's bytes `from`..`to`, not copied: good until the next `fill`. */
  slice(from: number, to: number): Uint8Array {
    return this.#buffer.subarray(this.#start + from, this.#start + to);
  }

  /** The little-endian uint32 at a byte of the window. */
  uint32(at: number): number {
    return this.#view.getUint32(this.#start + at, true);
  }

  /** Gives the memory back: nothing that was read through the window may be used any more. */
  close(): void {
    this.#unreserve();
    if (this.#buffer.length === WINDOW_BYTES && spare.length < MOST_SPARE) spare.push(this.#buffer);
    this.#hold(new Uint8Array(0));
    this.#start = 0;
    this.#end = 0;
  }

  /** Moves the window's start. Behind a long record, its memory is freed. */
  skip(bytes: number): void {
    this.#start += bytes;
    this.#offset += bytes;
    if (this.available <= WINDOW_BYTES) this.#unreserve();
  }
}
