import { deserialiseError, type NextvladError } from "../base/errors.js";
import type { Block, BlockOptions, BlockSource } from "./block.js";
import { Inbox } from "./inbox.js";
import type { ReaderReply, ReaderRequest } from "./reader-worker.js";
import { startThread, type Thread } from "./thread.js";

/** Blocks that a reading thread may send of one shard before the first is taken; it holds one more in its hands. */
const BLOCKS_AHEAD = 2;

/** Threads that read shards ahead, each by as much as its queue holds. */
export interface ReaderPool {
  /** Starts reading a shard in the given thread (counted modulo their number). */
  open(path: string, reader: number): BlockSource;
  close(): Promise<void>;
}

const READER_MODULE = new URL("./reader-worker.js", import.meta.url);

/**
 * Starts `readers` reading threads. A source's `next` rejects with what befell its shard, at its place in the shard, or with WORKER_DIED;
 * after `close` it never settles.
 */
export function startReaders(readers: number, options: BlockOptions, module = READER_MODULE): ReaderPool {
  const threads = Array.from({ length: readers }, () => startReader(options, module));
  return {
    open: (path, reader) => (threads[reader % readers] as Reader).open(path),
    async close() {
      await Promise.all(threads.map((reader) => reader.thread.stop()));
    },
  };
}

interface Reader {
  readonly thread: Thread<ReaderRequest>;
  open(path: string): BlockSource;
}

function startReader(options: BlockOptions, module: URL): Reader {
  const inboxes = new Map<number, Inbox<Block>>();
  let opened = 0;
  let death: NextvladError | undefined;
  const thread = startThread<ReaderRequest, ReaderReply>(module, options, {
    message(reply) {
      if (reply.type === "block") inboxes.get(reply.source)?.put(reply.block);
      else inboxes.get(reply.source)?.fail(deserialiseError(reply.error));
    },
    died(error) {
      death = error;
      for (const inbox of inboxes.values()) inbox.fail(error);
    },
  });
  return {
    thread,
    open(path) {
      const source = opened++;
      const inbox = new Inbox<Block>();
      if (death !== undefined) inbox.fail(death);
      inboxes.set(source, inbox);
      thread.post({ type: "open", source, path });
      for (let credit = 0; credit < BLOCKS_AHEAD; credit++) thread.post({ type: "credit", source });
      return {
        async next() {
          const block = await inbox.take();
          if (block.last) inboxes.delete(source);
          else thread.post({ type: "credit", source });
          return block;
        },
      };
    },
  };
}
