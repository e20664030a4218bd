import { deserialiseError, NextvladError } from "../base/errors.js";
import type { Block, BlockOptions, BlockSource } from "./block.js";
import { Inbox } from "./inbox.js";
import type { ReaderReply, ReaderRequest } from "./reader-worker.js";
import { deathError, startThread, type Thread } from "./thread.js";

/** Blocks of one shard that a reading thread may send before the first is given back. The thread holds one more, ready to send. */
const BLOCKS_AHEAD = 3;

/** A shard that is being read, with its timings. */
export interface OpenShard {
  readonly path: string;
  readonly openMs: number;
  /** Time since its last block arrived; null if none has. */
  readonly quietMs: number | null;
  /** Time since its next block was requested; null if no request is pending. */
  readonly waitedMs: number | null;
}

/** Threads that read shards ahead, up to a fixed number of blocks per shard. */
export interface ReaderPool {
  /** Number of threads. */
  readonly readers: number;
  /** Starts reading a shard in thread `reader` modulo the number of threads. */
  open(path: string, reader: number, options: BlockOptions): BlockSource;
  /** Returns the shards that are being read, the longest-awaited first. */
  openShards(): readonly OpenShard[];
  /** Closes all shards. Pending requests for their blocks reject with WORKER_DIED. The threads stay available for other shards. */
  rest(): Promise<void>;
  close(): Promise<void>;
}

const READER_MODULE = new URL("./reader-worker.js", import.meta.url);

/** Starts `readers` reading threads. A source's `next` rejects with the shard's error, at its place in the shard, or with WORKER_DIED. */
export function startReaders(readers: number, module = READER_MODULE): ReaderPool {
  const threads = Array.from({ length: readers }, () => new Reader(module));
  return {
    readers,
    open: (path, reader, options) => (threads[reader % readers] as Reader).open(path, options),
    openShards: () => threads.flatMap((reader) => reader.openShards()).sort((a, b) => (b.waitedMs ?? -1) - (a.waitedMs ?? -1)),
    async rest() {
      await Promise.all(threads.map((reader) => reader.rest()));
    },
    async close() {
      await Promise.all(threads.map((reader) => reader.close()));
    },
  };
}

/** State of a shard that is being read; times are from `performance.now()`. */
interface Reading {
  readonly path: string;
  readonly inbox: Inbox<Block>;
  readonly openedMs: number;
  cameMs: number | null;
  askedMs: number | null;
}

class Reader {
  readonly #thread: Thread<ReaderRequest>;
  readonly #readings = new Map<number, Reading>();
  readonly #resting = new Inbox<void>();
  #opened = 0;
  #death: NextvladError | null = null;
  #closed = false;

  constructor(module: URL) {
    this.#thread = startThread<ReaderRequest, ReaderReply>(module, undefined, {
      message: (reply) => this.#take(reply),
      died: (how) => {
        const files = Array.from(this.#readings.values(), ({ path }) => path);
        this.#death = deathError("a data reading thread", how, files, "check them with nextvlad verify, and the machine's memory");
        this.#failAll(this.#death);
        this.#resting.put();
      },
    });
  }

  open(path: string, options: BlockOptions): BlockSource {
    const source = this.#opened++;
    const thread = this.#thread;
    const reading: Reading = { path, inbox: new Inbox<Block>(), openedMs: performance.now(), cameMs: null, askedMs: null };
    if (this.#death !== null) reading.inbox.fail(this.#death);
    this.#readings.set(source, reading);
    thread.post({ type: "open", source, path, options });
    for (let credit = 0; credit < BLOCKS_AHEAD; credit++) thread.post({ type: "credit", source, slab: null });
    return {
      next: async () => {
        reading.askedMs = performance.now();
        const block = await reading.inbox.take();
        reading.askedMs = null;
        if (block.last) this.#readings.delete(source);
        return block;
      },
      giveBack: ({ slab }) => thread.post({ type: "credit", source, slab }, [slab]),
    };
  }

  openShards(): OpenShard[] {
    const nowMs = performance.now();
    const since = (ms: number | null): number | null => (ms === null ? null : nowMs - ms);
    return Array.from(this.#readings.values(), ({ path, openedMs, cameMs, askedMs }) => {
      return { path, openMs: nowMs - openedMs, quietMs: since(cameMs), waitedMs: since(askedMs) };
    });
  }

  async rest(): Promise<void> {
    this.#failAll(new NextvladError("WORKER_DIED", "reading was ended before the shard was"));
    if (this.#death !== null || this.#closed) return;
    this.#thread.post({ type: "rest" });
    await this.#resting.take();
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#resting.put();
    return this.#thread.stop();
  }

  #take(reply: ReaderReply): void {
    if (reply.type === "resting") {
      this.#resting.put();
      return;
    }
    const reading = this.#readings.get(reply.source);
    if (reading === undefined) return;
    reading.cameMs = performance.now();
    if (reply.type === "block") reading.inbox.put(reply.block);
    else reading.inbox.fail(deserialiseError(reply.error));
  }

  #failAll(error: NextvladError): void {
    for (const { inbox } of this.#readings.values()) inbox.fail(error);
    this.#readings.clear();
  }
}
