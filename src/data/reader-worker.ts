import { parentPort } from "node:worker_threads";
import { type SerializedError, serializeError } from "../base/errors.js";
import { countBytesRead } from "../formats/containers/byte-source.js";
import { AsyncQueue } from "./async-queue.js";
import { BufferPool } from "./buffer-pool.js";
import { type Block, type BlockOptions, indexShard, readBlocks, type ShardIndex } from "./shard-reader.js";
import { STOP } from "./worker-thread.js";

/**
 * Messages to a reader thread: open a shard and send its first `credits` blocks, send one more block of a shard (with the memory of a used block), send a
 * shard's index, or close all shards.
 */
export type ReaderRequest =
  | { readonly type: "open"; readonly source: number; readonly path: string; readonly options: BlockOptions; readonly credits: number }
  | { readonly type: "credit"; readonly source: number; readonly buffer: ArrayBuffer }
  | { readonly type: "index"; readonly source: number; readonly path: string; readonly options: BlockOptions }
  | { readonly type: "close-shards" };

/**
 * Messages from a reader thread: the next block of a shard, the error that takes its place, a shard's index, or confirmation that all shards are closed; and the
 * bytes that the thread has read so far.
 */
export type ReaderReply = ReplyContent & { readonly bytesRead: number };

type ReplyContent =
  | { readonly type: "block"; readonly source: number; readonly block: Block }
  | { readonly type: "error"; readonly source: number; readonly error: SerializedError }
  | { readonly type: "index"; readonly source: number; readonly index: ShardIndex }
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
  else if (request.type === "open") start(request, sendBlocks);
  else if (request.type === "index") start(request, sendIndex);
  else if (request.type === "close-shards") void closeShards();
  else {
    pool.release(request.buffer);
    readings.get(request.source)?.credits.put();
  }
});

type ShardRequest = ReaderRequest & { readonly type: "open" | "index" };

/** Starts reading a shard. Shards are read concurrently: while one waits for the disk or for a credit, the others continue. */
function start(request: ShardRequest, read: (request: ShardRequest, reading: Reading) => Promise<void>): void {
  const done = Promise.resolve().then(() => read(request, reading).finally(() => readings.delete(request.source)));
  const reading: Reading = { credits: new AsyncQueue(), isCancelled: false, done };
  if (request.type === "open") for (let credit = 0; credit < request.credits; credit++) reading.credits.put();
  readings.set(request.source, reading);
}

function send(content: ReplyContent, transferred: readonly ArrayBuffer[] = []): void {
  port?.postMessage({ ...content, bytesRead: countBytesRead() } satisfies ReaderReply, transferred);
}

async function sendIndex({ source, path, options }: ShardRequest, reading: Reading): Promise<void> {
  const index = await indexShard(path, options, () => reading.isCancelled);
  if (!reading.isCancelled) send({ type: "index", source, index });
}

async function sendBlocks({ source, path, options }: ShardRequest, reading: Reading): Promise<void> {
  try {
    for await (const block of readBlocks(path, options, pool)) {
      if (!reading.isCancelled) await reading.credits.take();
      if (reading.isCancelled) return;
      send({ type: "block", source, block }, [...buffersOf(block)]);
    }
  } catch (error) {
    const { details, ...serialized } = serializeError(error);
    // Unexpected errors do not name the shard.
    const placed = { ...serialized, details: { file: path, ...details } };
    if (!reading.isCancelled) send({ type: "error", source, error: placed });
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
  send({ type: "shards-closed" });
}

/** Closes the port, so that the thread exits once all files are closed. */
async function stop(): Promise<void> {
  port?.close();
  await cancelAll();
}
