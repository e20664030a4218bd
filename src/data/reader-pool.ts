import { deserialiseError, type NextvladError } from "../base/errors.js";
import type { Block, BlockOptions, BlockSource } from "./block.js";
import { Inbox } from "./inbox.js";
import type { ReaderReply, ReaderRequest } from "./reader-worker.js";
import { deathError, startThread, type Thread } from "./thread.js";

/** Blocks that a reading thread may send of one shard before the first is taken; it holds one more in its hands. */
const BLOCKS_AHEAD = 2;

/** A shard that is being read, and for how long. */
export interface OpenShard {
  readonly path: string;
  readonly openMs: number;
  /** Since its last block came; null where none has. */
  readonly quietMs: number | null;
  /** Since its next block was asked for; null where none is. */
  readonly waitedMs: number | null;
}

/** Threads that read shards ahead, each by as much as its queue holds. */
export interface ReaderPool {
  /** Starts reading a shard in the given thread (counted modulo their number). */
  open(path: string, reader: number): BlockSource;
  /** The shards that are being read, those first that are waited for. */
  openShards(): readonly OpenShard[];
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
    openShards() {
      const shards = threads.flatMap(({ reading }) => Array.from(reading.values(), describeReading));
      return shards.sort((a, b) => (b.waitedMs ?? -1) - (a.waitedMs ?? -1));
    },
    async close() {
      await Promise.all(threads.map((reader) => reader.thread.stop()));
    },
  };
}

/** A shard on its way through a thread; times are of `performance.now()`. */
interface Reading {
  readonly path: string;
  readonly inbox: Inbox<Block>;
  readonly openedMs: number;
  cameMs: number | null;
  askedMs: number | null;
}

function describeReading({ path, openedMs, cameMs, askedMs }: Reading): OpenShard {
  const nowMs = performance.now();
  const since = (ms: number | null): number | null => (ms === null ? null : nowMs - ms);
  return { path, openMs: nowMs - openedMs, quietMs: since(cameMs), waitedMs: since(askedMs) };
}

interface Reader {
  readonly thread: Thread<ReaderRequest>;
  readonly reading: ReadonlyMap<number, Reading>;
  open(path: string): BlockSource;
}

function startReader(options: BlockOptions, module: URL): Reader {
  const reading = new Map<number, Reading>();
  let opened = 0;
  let death: NextvladError | undefined;
  const thread = startThread<ReaderRequest, ReaderReply>(module, options, {
    message(reply) {
      const shard = reading.get(reply.source);
      if (shard === undefined) return;
      shard.cameMs = performance.now();
      if (reply.type === "block") shard.inbox.put(reply.block);
      else shard.inbox.fail(deserialiseError(reply.error));
    },
    died(how) {
      const files = Array.from(reading.values(), ({ path }) => path);
      death = deathError("a data reading thread", how, files, "check them with nextvlad verify, and the machine's memory");
      for (const { inbox } of reading.values()) inbox.fail(death);
    },
  });
  return {
    thread,
    reading,
    open(path) {
      const source = opened++;
      const shard: Reading = { path, inbox: new Inbox<Block>(), openedMs: performance.now(), cameMs: null, askedMs: null };
      if (death !== undefined) shard.inbox.fail(death);
      reading.set(source, shard);
      thread.post({ type: "open", source, path });
      for (let credit = 0; credit < BLOCKS_AHEAD; credit++) thread.post({ type: "credit", source });
      return {
        async next() {
          shard.askedMs = performance.now();
          const block = await shard.inbox.take();
          shard.askedMs = null;
          if (block.last) reading.delete(source);
          else thread.post({ type: "credit", source });
          return block;
        },
      };
    },
  };
}
