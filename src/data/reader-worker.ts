import { parentPort } from "node:worker_threads";
import { type SerialisedError, serialiseError } from "../base/errors.js";
import { type Block, type BlockOptions, readBlocks } from "./block.js";
import { Inbox } from "./inbox.js";
import { SlabPool } from "./slab.js";
import { STOP } from "./thread.js";

/** To a reading thread: a shard to read, leave to send one more block of it with the memory of one that is done with, or to leave all shards as they are. */
export type ReaderRequest =
  | { readonly type: "open"; readonly source: number; readonly path: string; readonly options: BlockOptions }
  | { readonly type: "credit"; readonly source: number; readonly slab: ArrayBuffer | null }
  | { readonly type: "rest" };

/** From a reading thread: a shard's next block, or the error that stands in its place; and that all shards are closed. */
export type ReaderReply =
  | { readonly type: "block"; readonly source: number; readonly block: Block }
  | { readonly type: "error"; readonly source: number; readonly error: SerialisedError }
  | { readonly type: "resting" };

/** A shard that is being read. */
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

/** Shards are served side by side: while one waits for the disk or for leave to send, another goes on. */
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
    if (!reading.cancelled) port?.postMessage({ type: "error", source, error: serialiseError(error) } satisfies ReaderReply);
  } finally {
    readings.delete(source);
  }
}

/** The slab, and what did not fit in. */
function memoryOf({ videos, slab }: Block): Set<ArrayBuffer> {
  const memory = new Set([slab]);
  for (const { rgb, audio } of videos) memory.add(rgb.buffer as ArrayBuffer).add(audio.buffer as ArrayBuffer);
  return memory;
}

/** Wakes all that wait, so that they close their files. */
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

/** With the port closed, the thread ends once all files are. */
async function stop(): Promise<void> {
  port?.close();
  await cancelAll();
}
