import { parentPort } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { AsyncQueue } from "./async-queue.js";
import { BufferPool } from "./buffer-pool.js";
import { type Block, type BlockOptions, readBlocks } from "./shard-reader.js";
import { STOP } from "./worker-thread.js";

/** Messages to a reader thread: open a shard, send one more block of a shard (with the memory of a used block), or close all shards. */
export type ReaderRequest =
  | { readonly type: "open"; readonly source: number; readonly path: string; readonly options: BlockOptions }
  | { readonly type: "credit"; readonly source: number; readonly buffer: ArrayBuffer | null }
  | { readonly type: "close-shards" };

/** Messages from a reader thread: the next block of a shard, the error that takes its place, or confirmation that all shards are closed. */
export type ReaderReply =
  | { readonly type: "block"; readonly source: number; readonly block: Block }
  | { readonly type: "error"; readonly source: number; readonly error: SerialisedError }
  | { readonly type: "shards-closed" };

/** State of a shard that is being read. */
interface Reading {
  readonly credits: AsyncQueue<void>;
  isCancelled: boolean;
  readonly done: Promise<void>;
}

const port = parentPort;
if (port === null) throw new Error("this module runs in a worker thread");
const pool = new BufferPool();
const readings = new Map<number, Reading>();

port.on("message", (request: ReaderRequest | typeof STOP) => {
  if (request === STOP) void stop();
  else if (request.type === "open") open(request.source, request.path, request.options);
  else if (request.type === "close-shards") void closeShards();
  else {
    if (request.buffer !== null) pool.release(request.buffer);
    readings.get(request.source)?.credits.put();
  }
});

/** Starts reading a shard. Shards are read concurrently: while one waits for the disk or for a credit, the others continue. */
function open(source: number, path: string, options: BlockOptions): void {
  const credits = new AsyncQueue<void>();
  const reading: Reading = { credits, isCancelled: false, done: Promise.resolve().then(() => sendBlocks(source, path, options, reading)) };
  readings.set(source, reading);
}

async function sendBlocks(source: number, path: string, options: BlockOptions, reading: Reading): Promise<void> {
  try {
    for await (const block of readBlocks(path, options, pool)) {
      if (!reading.isCancelled) await reading.credits.take();
      if (reading.isCancelled) return;
      port?.postMessage({ type: "block", source, block } satisfies ReaderReply, [...buffersOf(block)]);
    }
  } catch (error) {
    const { details, ...serialised } = serialiseError(error);
    // Unexpected errors do not name the shard.
    const placed = { ...serialised, details: { file: path, ...details } };
    if (!reading.isCancelled) port?.postMessage({ type: "error", source, error: placed } satisfies ReaderReply);
  } finally {
    readings.delete(source);
  }
}

/** Returns the buffers to transfer: the block's, and those of features that did not fit in it. */
function buffersOf({ videos, buffer }: Block): Set<ArrayBuffer> {
  const buffers = new Set([buffer]);
  for (const { rgb, audio } of videos) buffers.add(rgb.buffer as ArrayBuffer).add(audio.buffer as ArrayBuffer);
  return buffers;
}

/** Cancels all reads, also those that wait for a credit, and waits until their files are closed. */
async function cancelAll(): Promise<void> {
  const open = [...readings.values()];
  for (const reading of open) {
    reading.isCancelled = true;
    reading.credits.put();
  }
  await Promise.all(open.map(({ done }) => done));
}

async function closeShards(): Promise<void> {
  await cancelAll();
  port?.postMessage({ type: "shards-closed" } satisfies ReaderReply);
}

/** Closes the port, so that the thread exits once all files are closed. */
async function stop(): Promise<void> {
  port?.close();
  await cancelAll();
}
