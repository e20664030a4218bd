import { parentPort, workerData } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { assembleBatches, type BatchStep, type StreamOptions } from "./batches.js";
import type { LeftOut } from "./damage-sieve.js";
import { Inbox } from "./inbox.js";
import { type OpenShard, startReaders } from "./reader-pool.js";
import { buffersOf, CREDIT, INQUIRY, type STOP } from "./thread.js";

/** From the thread that makes batches: what comes next, and what was left out of the data since the one before. */
export type BatchReply = BatchContent & { readonly leftOut: readonly LeftOut[] };

/** Its answer to an inquiry: what is being read. */
export interface ReadingReply {
  readonly type: "reading";
  readonly shards: readonly OpenShard[];
}

type BatchContent =
  | { readonly type: "batch"; readonly step: BatchStep }
  | { readonly type: "end" }
  | { readonly type: "error"; readonly error: SerialisedError };

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");
const options = workerData as StreamOptions;
const credits = new Inbox<void>();
const pool = startReaders(options.readers, options);
let leftOut: LeftOut[] = [];
let stopped = false;

port.on("message", (request: typeof CREDIT | typeof INQUIRY | typeof STOP) => {
  if (request === CREDIT) credits.put();
  else if (request === INQUIRY) port.postMessage({ type: "reading", shards: pool.openShards() } satisfies ReadingReply);
  else void stop();
});
void serve();

function noteLeftOut(parts: readonly LeftOut[]): void {
  for (const part of parts) leftOut.push(part);
}

/** Each batch is whole before leave to send it is awaited, so that one is always in the making ahead. */
async function serve(): Promise<void> {
  try {
    for await (const step of assembleBatches(options, pool, noteLeftOut)) {
      await credits.take();
      if (stopped) return;
      send({ type: "batch", step }, [step.batch.rgb, step.batch.audio]);
    }
    send({ type: "end" });
  } catch (error) {
    send({ type: "error", error: serialiseError(error) });
  }
}

function send(content: BatchContent, handedOver: readonly Uint8Array[] = []): void {
  if (!stopped) port?.postMessage({ ...content, leftOut } satisfies BatchReply, buffersOf(handedOver));
  leftOut = [];
}

async function stop(): Promise<void> {
  stopped = true;
  await pool.close();
  port?.close();
}
