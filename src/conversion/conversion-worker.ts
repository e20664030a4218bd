import { parentPort } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { STOP } from "../data/thread.js";
import { convertShard } from "./convert-shard.js";
import type { ConversionResult, ConversionTask } from "./task.js";

/** A message from the worker: the outcome of a task. */
export type ConversionReply =
  | { readonly type: "done"; readonly result: ConversionResult }
  | { readonly type: "error"; readonly error: SerialisedError };

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");

port.on("message", async (task: ConversionTask | typeof STOP) => {
  if (task === STOP) {
    port.close();
    return;
  }
  const reply = await convertShard(task).then(
    (result): ConversionReply => ({ type: "done", result }),
    (error: unknown): ConversionReply => ({ type: "error", error: serialiseError(error) }),
  );
  port.postMessage(reply);
});
