import { parentPort } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { type Block, type BlockOptions, readBlocks } from "./block.js";
import { Inbox } from "./inbox.js";
import { SlabPool } from "./slab.js";
import { STOP } from "./thread.js";

/** Messages to a reading thread: open a shard, send one more block of a shard (with the memory of a used block), or close all shards. */
export type ReaderRequest =
  | { readonly type: "open"; readonly source: number; readonly path: string; readonly options: BlockOptions }
  | { readonly type: "credit"; readonly source: number; readonly slab: ArrayBuffer | null }
  | { readonly type: "rest" };

/** Messages from a reading thread: the next block of a shard, the error that takes its place, or confirmation that all shards are closed. */
export type ReaderReply =
  | { readonly type: "block"; readonly source: number; readonly block: Block }
  | { readonly type: "error"; readonly source: number; readonly error: SerialisedError }
  | { readonly type: "resting" };

/** State of a shard that is being read. */
interface Reading {
  readonly leave: Inbox<void>;
  cancelled: boolean;
  readonly done: Promise<void>;
}

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");
const slabs = new SlabPool();
const readings = new Map<number, Reading>();

port.on("message", (request: ReaderRequest | typeof STOP) => {
  if (request === STOP) void stop();
  else if (request.type === "open") open(request.source, request.path, request.options);
  else if (request.type === "rest") void rest();
  else {
    if (request.slab !== null) slabs.giveBack(request.slab);
    readings.get(request.source)?.leave.put();
  }
});

/** Starts reading a shard. Shards are read concurrently: while one waits for the disk or for a credit, the others continue. */
function open(source: number, path: string, options: BlockOptions): void {
  const leave = new Inbox<void>();
  const reading: Reading = { leave, cancelled: false, done: Promise.resolve().then(() => serve(source, path, options, reading)) };
  readings.set(source, reading);
}

async function serve(source: number, path: string, options: BlockOptions, reading: Reading): Promise<void> {
  try {
    for await (const block of readBlocks(path, options, slabs)) {
      if (!reading.cancelled) await reading.leave.take();
      if (reading.cancelled) return;
      port?.postMessage({ type: "block", source, block } satisfies ReaderReply, [...memoryOf(block)]);
    }
  } catch (error) {
    const { details, ...serialised } = serialiseError(error);
    // Unexpected errors do not name the shard.
    const placed = { ...serialised, details: { file: path, ...details } };
    if (!reading.cancelled) port?.postMessage({ type: "error", source, error: placed } satisfies ReaderReply);
  } finally {
    readings.delete(source);
  }
}

/** Returns the buffers to transfer: the slab, and those of features that did not fit in it. */
function memoryOf({ videos, slab }: Block): Set<ArrayBuffer> {
  const memory = new Set([slab]);
  for (const { rgb, audio } of videos) memory.add(rgb.buffer as ArrayBuffer).add(audio.buffer as ArrayBuffer);
  return memory;
}

/** Cancels all reads, also those that wait for a credit, and waits until their files are closed. */
async function cancelAll(): Promise<void> {
  const open = [...readings.values()];
  for (const reading of open) {
    reading.cancelled = true;
    reading.leave.put();
  }
  await Promise.all(open.map(({ done }) => done));
}

async function rest(): Promise<void> {
  await cancelAll();
  port?.postMessage({ type: "resting" } satisfies ReaderReply);
}

/** Closes the port, so that the thread exits once all files are closed. */
async function stop(): Promise<void> {
  port?.close();
  await cancelAll();
}
