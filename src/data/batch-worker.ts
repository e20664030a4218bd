import { parentPort } from "node:worker_threads";
import { type SerializedError, serializeError } from "../base/errors.js";
import { AsyncQueue } from "./async-queue.js";
import { assembleBatches, BatchBuilder, type BatchMemory, type BatchStep, memoryOf } from "./batches.js";
import { BlockCache } from "./block-cache.js";
import { VideoPool } from "./buffer-pool.js";
import type { SkippedRecord } from "./corrupt-records.js";
import type { StreamOptions } from "./epoch-videos.js";
import { type OpenShard, type ReaderPool, startReaders } from "./reader-pool.js";
import { STOP } from "./worker-thread.js";

/**
 * Messages to the batch thread: start readers for the next epoch, start an epoch, send one more batch (with the memory of a used batch), report the open
 * shards, or end the epoch.
 */
export type BatchRequest =
  | { readonly type: "prepare"; readonly readers: number }
  | { readonly type: "start"; readonly options: StreamOptions }
  | { readonly type: "credit"; readonly memory: BatchMemory | null }
  | { readonly type: "open-shards" }
  | { readonly type: "finish" };

/** Messages from the batch thread: the next event of the epoch, the open shards, or confirmation that all files are closed. */
export type BatchReply =
  | BatchEvent
  | { readonly type: "open-shards"; readonly shards: readonly OpenShard[] }
  | { readonly type: "finished" };

/** A batch, the end of the epoch or its error, with the records skipped and the shards opened since the previous event, and the bytes read of the epoch so far. */
export type BatchEvent = EventContent & {
  readonly skipped: readonly SkippedRecord[];
  readonly opened: readonly string[];
  readonly bytesRead: number;
};

type EventContent =
  | { readonly type: "batch"; readonly step: BatchStep }
  | { readonly type: "end" }
  | { readonly type: "error"; readonly error: SerializedError };

/** State of an epoch. */
interface Epoch {
  readonly credits: AsyncQueue<void>;
  /** Bytes that the readers had read before. */
  bytesBefore: number;
  skipped: SkippedRecord[];
  isFinished: boolean;
}

const port = parentPort;
if (port === null) throw new Error("this module runs in a worker thread");
const cache = new BlockCache();
const space = { builder: new BatchBuilder(), videos: new VideoPool() };
let pool: ReaderPool | null = null;
let epoch: Epoch = { credits: new AsyncQueue(), bytesBefore: 0, skipped: [], isFinished: true };
let sending: Promise<void> = Promise.resolve();

port.on("message", (request: BatchRequest | typeof STOP) => {
  if (request === STOP) void stop();
  else if (request.type === "prepare") pool ??= startReaders(request.readers);
  else if (request.type === "start") start(request.options);
  else if (request.type === "finish") void finish();
  else if (request.type === "open-shards") port.postMessage({ type: "open-shards", shards: pool?.openShards() ?? [] } satisfies BatchReply);
  else {
    if (request.memory !== null) space.builder.release(request.memory);
    epoch.credits.put();
  }
});

function start(options: StreamOptions): void {
  epoch = { credits: new AsyncQueue(), bytesBefore: 0, skipped: [], isFinished: false };
  sending = sendBatches(options, epoch);
}

/** Sends an epoch's batches, one per credit. A batch is assembled before its credit is awaited, so that one is always ready in advance. */
async function sendBatches(options: StreamOptions, epoch: Epoch): Promise<void> {
  try {
    if (pool !== null && pool.readers < options.readers) {
      await pool.close();
      pool = null;
      if (epoch.isFinished) return;
    }
    pool ??= startReaders(options.readers);
    epoch.bytesBefore = pool.bytesRead();
    const readers = options.order === "shuffled" ? cache.readersOf(options.shards, pool) : pool;
    for await (const step of assembleBatches(options, readers, space, (skipped) => noteSkipped(epoch, skipped))) {
      await epoch.credits.take();
      if (epoch.isFinished) return;
      send(epoch, { type: "batch", step }, memoryOf(step.batch));
    }
    send(epoch, { type: "end" });
  } catch (error) {
    send(epoch, { type: "error", error: serializeError(error) });
  }
}

/** Appends one by one: a very long list, passed as arguments, would overflow the stack. */
function noteSkipped(epoch: Epoch, skipped: readonly SkippedRecord[]): void {
  for (const record of skipped) epoch.skipped.push(record);
}

function send(epoch: Epoch, content: EventContent, transferred: readonly ArrayBuffer[] = []): void {
  const bytesRead = (pool?.bytesRead() ?? 0) - epoch.bytesBefore;
  const opened = pool?.takeOpened() ?? [];
  if (!epoch.isFinished) port?.postMessage({ ...content, skipped: epoch.skipped, opened, bytesRead } satisfies BatchEvent, transferred);
  epoch.skipped = [];
}

/** Ends the epoch: unblocks all pending waits and closes all files. The second `closeShards` closes shards that were opened in the meantime. */
async function finish(): Promise<void> {
  epoch.isFinished = true;
  epoch.credits.put();
  await pool?.closeShards();
  await sending;
  await pool?.closeShards();
  space.builder.clear();
  port?.postMessage({ type: "finished" } satisfies BatchReply);
}

async function stop(): Promise<void> {
  epoch.isFinished = true;
  await pool?.close();
  port?.close();
}
