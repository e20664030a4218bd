import { parentPort } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { BatchBuilder, type BatchMemory, memoryOf } from "./batch-builder.js";
import { assembleBatches, type BatchStep, type StreamOptions } from "./batches.js";
import type { LeftOut } from "./damage-sieve.js";
import { Inbox } from "./inbox.js";
import { type OpenShard, type ReaderPool, startReaders } from "./reader-pool.js";
import { STOP } from "./thread.js";
import { VideoMemory } from "./video-memory.js";

/**
 * Messages to the batch thread: start readers for the next epoch, start an epoch, send one more batch (with the memory of a used batch), report the open
 * shards, or end the epoch.
 */
export type BatchRequest =
  | { readonly type: "prepare"; readonly readers: number }
  | { readonly type: "start"; readonly options: StreamOptions }
  | { readonly type: "credit"; readonly memory: BatchMemory | null }
  | { readonly type: "inquire" }
  | { readonly type: "finish" };

/** Messages from the batch thread: the next event of the epoch, the open shards, or confirmation that all files are closed. */
export type BatchReply = BatchEvent | { readonly type: "reading"; readonly shards: readonly OpenShard[] } | { readonly type: "finished" };

/** A batch, the end of the epoch or its error, with the records skipped since the previous event. */
export type BatchEvent = EventContent & { readonly leftOut: readonly LeftOut[] };

type EventContent =
  | { readonly type: "batch"; readonly step: BatchStep }
  | { readonly type: "end" }
  | { readonly type: "error"; readonly error: SerialisedError };

/** State of an epoch. */
interface Epoch {
  readonly credits: Inbox<void>;
  leftOut: LeftOut[];
  finished: boolean;
}

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");
const space = { builder: new BatchBuilder(), waiting: new VideoMemory() };
let pool: ReaderPool | null = null;
let epoch: Epoch = { credits: new Inbox(), leftOut: [], finished: true };
let serving: Promise<void> = Promise.resolve();

port.on("message", (request: BatchRequest | typeof STOP) => {
  if (request === STOP) void stop();
  else if (request.type === "prepare") pool ??= startReaders(request.readers);
  else if (request.type === "start") start(request.options);
  else if (request.type === "finish") void finish();
  else if (request.type === "inquire") port.postMessage({ type: "reading", shards: pool?.openShards() ?? [] } satisfies BatchReply);
  else {
    if (request.memory !== null) space.builder.giveBack(request.memory);
    epoch.credits.put();
  }
});

function start(options: StreamOptions): void {
  epoch = { credits: new Inbox(), leftOut: [], finished: false };
  serving = serve(options, epoch);
}

/** Sends an epoch's batches, one per credit. A batch is assembled before its credit is awaited, so that one is always ready in advance. */
async function serve(options: StreamOptions, epoch: Epoch): Promise<void> {
  try {
    if (pool !== null && pool.readers < options.readers) {
      await pool.close();
      pool = null;
      if (epoch.finished) return;
    }
    pool ??= startReaders(options.readers);
    for await (const step of assembleBatches(options, pool, space, (parts) => noteLeftOut(epoch, parts))) {
      await epoch.credits.take();
      if (epoch.finished) return;
      send(epoch, { type: "batch", step }, memoryOf(step.batch));
    }
    send(epoch, { type: "end" });
  } catch (error) {
    send(epoch, { type: "error", error: serialiseError(error) });
  }
}

/** Appends one by one: a very long list, passed as arguments, would overflow the stack. */
function noteLeftOut(epoch: Epoch, parts: readonly LeftOut[]): void {
  for (const part of parts) epoch.leftOut.push(part);
}

function send(epoch: Epoch, content: EventContent, handedOver: readonly ArrayBuffer[] = []): void {
  if (!epoch.finished) port?.postMessage({ ...content, leftOut: epoch.leftOut } satisfies BatchEvent, handedOver);
  epoch.leftOut = [];
}

/** Ends the epoch: unblocks all pending waits and closes all files. The second `rest` closes shards that were opened in the meantime. */
async function finish(): Promise<void> {
  epoch.finished = true;
  epoch.credits.put();
  await pool?.rest();
  await serving;
  await pool?.rest();
  space.builder.clear();
  port?.postMessage({ type: "finished" } satisfies BatchReply);
}

async function stop(): Promise<void> {
  epoch.finished = true;
  await pool?.close();
  port?.close();
}
