import { setTimeout } from "node:timers/promises";
import { getEnvironmentData, setEnvironmentData, threadId } from "node:worker_threads";

/** Records up to this size are not counted: the windows of 16 open shards hold at most 256 MiB of them. */
const COUNTED_BYTES = 2 ** 24;
/** Maximum total size of longer records in memory, over all threads; a record that is longer itself is read alone. */
export const IN_FLIGHT_BYTES = 2 ** 28;

const KEY = "nextvlad: KiB of long records in memory";
/** Per-thread totals, so that the reservations of a thread that died can be released. Thread IDs of live threads are close to one another. */
const SLOTS = 4096;
const POLL_MS = 5;

/** [0]: the total over all threads in KiB; [1 + threadId % SLOTS]: this thread's total. */
let shared: Int32Array | null = null;

/** Shares this thread's total with threads that are started later. */
export function shareRecordBudget(): void {
  shared ??= attach();
}

function attach(): Int32Array {
  const inherited = getEnvironmentData(KEY) as unknown;
  const buffer = inherited instanceof SharedArrayBuffer ? inherited : new SharedArrayBuffer(4 * (1 + SLOTS));
  if (buffer !== inherited) setEnvironmentData(KEY, buffer as never);
  return new Int32Array(buffer);
}

function sums(): Int32Array {
  shared ??= attach();
  return shared;
}

function slotOf(thread: number): number {
  return 1 + (thread % SLOTS);
}

/** Whether a record is long enough to count against the budget. */
export function isCounted(bytes: number): boolean {
  return bytes > COUNTED_BYTES;
}

/**
 * Waits until the budget has room for a record of this size, and reserves it. A reader may hold only one reservation at a time, and meanwhile may wait for
 * nothing but its own file; otherwise two readers could deadlock.
 */
export async function reserveRecord(bytes: number): Promise<void> {
  while (!tryReserve(toKibibytes(bytes))) await setTimeout(POLL_MS);
  Atomics.add(sums(), slotOf(threadId), toKibibytes(bytes));
}

function toKibibytes(bytes: number): number {
  return Math.ceil(bytes / 1024);
}

/** Adds to the total over all threads, unless that would exceed the maximum. */
function tryReserve(kibibytes: number): boolean {
  const most = Math.max(IN_FLIGHT_BYTES / 1024, kibibytes);
  for (;;) {
    const sum = Atomics.load(sums(), 0);
    if (sum + kibibytes > most) return false;
    if (Atomics.compareExchange(sums(), 0, sum, sum + kibibytes) === sum) return true;
  }
}

/** Releases a reservation of `reserveRecord`. */
export function releaseRecord(bytes: number): void {
  Atomics.sub(sums(), slotOf(threadId), toKibibytes(bytes));
  Atomics.sub(sums(), 0, toKibibytes(bytes));
}

/** Releases the reservations of a thread that has ended. */
export function releaseThread(thread: number): void {
  Atomics.sub(sums(), 0, Atomics.exchange(sums(), slotOf(thread), 0));
}
