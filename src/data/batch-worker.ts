import { parentPort } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { BatchBuilder, type BatchMemory, memoryOf } from "./batch-builder.js";
import { assembleBatches, type BatchStep, type StreamOptions } from "./batches.js";
import { Inbox } from "./inbox.js";
import { type ReaderPool, startReaders } from "./reader-pool.js";
import { STOP } from "./thread.js";

/** To the thread that makes batches: an epoch to begin, leave to send one more batch with the memory of one that is done with, or the epoch's end. */
export type BatchRequest =
  | { readonly type: "start"; readonly options: StreamOptions }
  | { readonly type: "credit"; readonly memory: BatchMemory | null }
  | { readonly type: "finish" };

/** From it: the epoch's batches, its end or what befell it; and that all its files are closed. */
export type BatchReply =
  | { readonly type: "batch"; readonly step: BatchStep }
  | { readonly type: "end" }
  | { readonly type: "error"; readonly error: SerialisedError }
  | { readonly type: "finished" };

/** An epoch under way. */
interface Epoch {
  readonly credits: Inbox<void>;
  finished: boolean;
}

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");
const builder = new BatchBuilder();
let pool: ReaderPool | null = null;
let epoch: Epoch = { credits: new Inbox(), finished: true };
let serving: Promise<void> = Promise.resolve();

port.on("message", (request: BatchRequest | typeof STOP) => {
  if (request === STOP) void stop();
  else if (request.type === "start") start(request.options);
  else if (request.type === "finish") void finish();
  else {
    if (request.memory !== null) builder.giveBack(request.memory);
    epoch.credits.put();
  }
});

function start(options: StreamOptions): void {
  epoch = { credits: new Inbox(), finished: false };
  serving = serve(options, epoch);
}

/** Each batch is whole before leave to send it is awaited, so that one is always in the making ahead. */
async function serve(options: StreamOptions, epoch: Epoch): Promise<void> {
  try {
    if (pool !== null && pool.readers !== options.readers) {
      await pool.close();
      pool = null;
    }
    pool ??= startReaders(options.readers);
    for await (const step of assembleBatches(options, pool, builder)) {
      await epoch.credits.take();
      if (epoch.finished) return;
      port?.postMessage({ type: "batch", step } satisfies BatchReply, memoryOf(step.batch));
    }
    port?.postMessage({ type: "end" } satisfies BatchReply);
  } catch (error) {
    if (!epoch.finished) port?.postMessage({ type: "error", error: serialiseError(error) } satisfies BatchReply);
  }
}

/** Wakes whoever waits, so that all files are closed: also those that were opened before everyone had heard of it. */
async function finish(): Promise<void> {
  epoch.finished = true;
  epoch.credits.put();
  await pool?.rest();
  await serving;
  await pool?.rest();
  builder.clear();
  port?.postMessage({ type: "finished" } satisfies BatchReply);
}

async function stop(): Promise<void> {
  epoch.finished = true;
  await pool?.close();
  port?.close();
}
