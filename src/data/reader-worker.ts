import { parentPort, workerData } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { type Block, type BlockOptions, readBlocks } from "./block.js";
import { Inbox } from "./inbox.js";
import { buffersOf, STOP } from "./thread.js";

/** To a reading thread: a shard to read, or leave to send one more block of it. */
export type ReaderRequest =
  | { readonly type: "open"; readonly source: number; readonly path: string }
  | { readonly type: "credit"; readonly source: number };

/** From a reading thread: a shard's next block, or the error that stands in its place. */
export type ReaderReply =
  | { readonly type: "block"; readonly source: number; readonly block: Block }
  | { readonly type: "error"; readonly source: number; readonly error: SerialisedError };

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");
const options = workerData as BlockOptions;
const credits = new Map<number, Inbox<void>>();
let stopped = false;

port.on("message", (request: ReaderRequest | typeof STOP) => {
  if (request === STOP) stop();
  else if (request.type === "open") void serve(request.source, request.path);
  else credits.get(request.source)?.put();
});

/** Shards are served side by side: while one waits for the disk or for leave to send, another goes on. */
async function serve(source: number, path: string): Promise<void> {
  const leave = new Inbox<void>();
  credits.set(source, leave);
  try {
    for await (const block of readBlocks(path, options)) {
      if (!stopped) await leave.take();
      if (stopped) return;
      const arrays = block.videos.flatMap((video) => [video.rgb, video.audio]);
      port?.postMessage({ type: "block", source, block } satisfies ReaderReply, buffersOf(arrays));
    }
  } catch (error) {
    const { details, ...serialised } = serialiseError(error);
    // What is unforeseen does not know its shard.
    const placed = { ...serialised, details: { file: path, ...details } };
    if (!stopped) port?.postMessage({ type: "error", source, error: placed } satisfies ReaderReply);
  } finally {
    credits.delete(source);
  }
}

/** Wakes all that wait, so that they close their files; with the port closed, the thread ends once they have. */
function stop(): void {
  stopped = true;
  for (const inbox of credits.values()) inbox.put();
  port?.close();
}
