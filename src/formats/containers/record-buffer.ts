import { setTimeout } from "node:timers/promises";
import { getEnvironmentData, setEnvironmentData, threadId } from "node:worker_threads";
import type { ByteSource, RecordPlace } from "./byte-source.js";

/** Large enough to amortize a system call, small enough to keep a shard's reader in the CPU cache. */
const WINDOW_BYTES = 2 * 2 ** 20;

/** Buffers of closed windows, reused by this thread's next ones: a new buffer per shard costs clearing 2 MB and garbage collection. */
const spareBuffers: Uint8Array[] = [];
const MAX_SPARE = 16;

/** An ArrayBuffer that grows and shrinks in place (ES2024): shrinking frees memory at once, without waiting for the garbage collector. */
type ResizableBuffer = ArrayBuffer & { resize(bytes: number): void };
const ResizableBuffer = ArrayBuffer as unknown as new (bytes: number, options: { readonly maxByteLength: number }) => ResizableBuffer;

/** A sliding window over a source's bytes in reused memory: `fill` moves the remaining bytes to the start of the memory and reads more after them. */
export class RecordBuffer {
  readonly #source: ByteSource;
  #buffer: Uint8Array = spareBuffers.pop() ?? new Uint8Array(WINDOW_BYTES);
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

  /**
   * Reads until the window has `bytes` bytes or the source ends, and, as long as no more memory is needed, up to `maxBytes`. The buffer doubles only as bytes
   * arrive, regardless of the requested length.
   */
  async fill(bytes: number, at: RecordPlace, maxBytes = Number.POSITIVE_INFINITY): Promise<void> {
    if (bytes > MAX_SHORT_RECORD_BYTES) await this.#reserve(bytes);
    if (this.#start + bytes > this.#buffer.length) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    while (this.available < bytes) {
      if (this.#end === this.#buffer.length) this.#grow(bytes);
      const read = await this.#source.read(this.#buffer.subarray(this.#end, this.#start + maxBytes), at);
      if (read === 0) return;
      this.#end += read;
    }
  }

  /** Moves the window into memory reserved from the budget for a record of this length. */
  async #reserve(bytes: number): Promise<void> {
    this.#unreserve();
    await reserveRecord(bytes);
    const rest = this.#buffer.subarray(this.#start, this.#end);
    const buffer = new ResizableBuffer(Math.max(WINDOW_BYTES, rest.length), { maxByteLength: bytes });
    new Uint8Array(buffer).set(rest);
    this.#reserved = { buffer, bytes };
    this.#setBuffer(new Uint8Array(buffer, 0, buffer.byteLength));
    this.#start = 0;
    this.#end = rest.length;
  }

  #unreserve(): void {
    if (this.#reserved === null) return;
    const { buffer, bytes } = this.#reserved;
    this.#reserved = null;
    const rest = this.#buffer.slice(this.#start, this.#end);
    buffer.resize(0);
    releaseRecord(bytes);
    this.#setBuffer(new Uint8Array(Math.max(WINDOW_BYTES, rest.length)));
    this.#buffer.set(rest);
    this.#start = 0;
    this.#end = rest.length;
  }

  #grow(bytes: number): void {
    const length = Math.min(this.#buffer.length * 2, Math.max(bytes, WINDOW_BYTES));
    if (this.#reserved === null) {
      const larger = new Uint8Array(length);
      larger.set(this.#buffer);
      this.#setBuffer(larger);
    } else {
      this.#reserved.buffer.resize(length);
      this.#setBuffer(new Uint8Array(this.#reserved.buffer, 0, length));
    }
  }

  #setBuffer(buffer: Uint8Array): void {
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
    if (this.#buffer.length === WINDOW_BYTES && spareBuffers.length < MAX_SPARE) spareBuffers.push(this.#buffer);
    this.#setBuffer(new Uint8Array(0));
    this.#start = 0;
    this.#end = 0;
  }

  /** Moves the window's start forward, also past its end: the source then skips the rest. */
  async seek(bytes: number, at: RecordPlace): Promise<void> {
    const within = Math.min(bytes, this.available);
    this.skip(within);
    if (bytes === within) return;
    await this.#source.skip(bytes - within, at);
    this.#offset += bytes - within;
  }

  /** Moves the window's start forward within the window. After a long record, frees its memory. */
  skip(bytes: number): void {
    this.#start += bytes;
    this.#offset += bytes;
    if (this.available <= WINDOW_BYTES) this.#unreserve();
  }
}

/** Records up to this size are not counted: the windows of 16 open shards hold at most 256 MiB of them. */
const MAX_SHORT_RECORD_BYTES = 2 ** 24;
/** Maximum total size of longer records in memory, over all threads; a record that is longer itself is read alone. */
export const RECORD_BUDGET_BYTES = 2 ** 28;

const ENVIRONMENT_KEY = "nextvlad: KiB of long records in memory";
/** Per-thread totals, so that the reservations of a thread that died can be released. Thread IDs of live threads are close to one another. */
const SLOTS = 4096;
const POLL_MS = 5;

/** [0]: the total over all threads in KiB; [1 + threadId % SLOTS]: this thread's total. */
let sharedTotals: Int32Array | null = null;

/** Shares the budget with threads that are started later. */
export function shareRecordBudget(): void {
  sharedTotals ??= attach();
}

function attach(): Int32Array {
  const inherited = getEnvironmentData(ENVIRONMENT_KEY) as unknown;
  const buffer = inherited instanceof SharedArrayBuffer ? inherited : new SharedArrayBuffer(4 * (1 + SLOTS));
  if (buffer !== inherited) setEnvironmentData(ENVIRONMENT_KEY, buffer as never);
  return new Int32Array(buffer);
}

function totals(): Int32Array {
  sharedTotals ??= attach();
  return sharedTotals;
}

function slotOf(thread: number): number {
  return 1 + (thread % SLOTS);
}

/**
 * Waits until the budget has room for a record of this size, and reserves it. A reader may hold only one reservation at a time, and meanwhile may wait for
 * nothing but its own file; otherwise two readers could deadlock.
 */
export async function reserveRecord(bytes: number): Promise<void> {
  while (!tryReserve(toKibibytes(bytes))) await setTimeout(POLL_MS);
  Atomics.add(totals(), slotOf(threadId), toKibibytes(bytes));
}

function toKibibytes(bytes: number): number {
  return Math.ceil(bytes / 1024);
}

/** Adds to the total over all threads, unless that would exceed the maximum. */
function tryReserve(kibibytes: number): boolean {
  const max = Math.max(RECORD_BUDGET_BYTES / 1024, kibibytes);
  for (;;) {
    const total = Atomics.load(totals(), 0);
    if (total + kibibytes > max) return false;
    if (Atomics.compareExchange(totals(), 0, total, total + kibibytes) === total) return true;
  }
}

/** Releases a reservation of `reserveRecord`. */
export function releaseRecord(bytes: number): void {
  Atomics.sub(totals(), slotOf(threadId), toKibibytes(bytes));
  Atomics.sub(totals(), 0, toKibibytes(bytes));
}

/** Releases the reservations of a thread that has ended. */
export function releaseThread(thread: number): void {
  Atomics.sub(totals(), 0, Atomics.exchange(totals(), slotOf(thread), 0));
}
