import { setImmediate } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { STOP } from "../data/thread.js";
import type { VideoShape } from "../data/video-check.js";
import { checkShard, type ShardPiece } from "./shard-check.js";

/** Message to a checking thread: the shard to check next. */
export interface VerifyRequest {
  readonly path: string;
}

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");
const shape = workerData as VideoShape;
let stopped = false;
/** Resolves when all requested shards are checked, one after another, in the order of the requests. */
let checked = Promise.resolve();

port.on("message", (request: VerifyRequest | typeof STOP) => {
  if (request === STOP) {
    stopped = true;
    port.close();
  } else checked = checked.then(() => check(request.path));
});

async function check(path: string): Promise<void> {
  if (stopped) return;
  for await (const piece of checkShard(path, shape)) {
    // Reading blocks the thread: stop requests are received only here.
    await setImmediate();
    if (stopped) return;
    port?.postMessage(piece satisfies ShardPiece);
  }
}
