import { deserializeError, NextvladError } from "../base/errors.js";
import { AsyncQueue } from "./async-queue.js";
import type { Source } from "./order.js";
import type { ReaderReply, ReaderRequest } from "./reader-worker.js";
import type { Block, BlockOptions, ShardIndex } from "./shard-reader.js";
import { startWorker, type WorkerThread, workerExitError } from "./worker-thread.js";

/** Blocks of one shard that a reader thread may send before the first is released. The thread holds one more, ready to send. */
const BLOCKS_AHEAD = 3;

/** Size up to which returning the memory of a shard's last block costs more than new memory: shards of single clips would need a message each. */
const MAX_DROPPED_BYTES = 2 ** 16;

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
  open(path: string, reader: number, options: BlockOptions): Source<Block>;
  /** Finds a shard's records by their headers, in the same thread as `open`. Rejects with WORKER_DIED only. */
  index(path: string, reader: number, options: BlockOptions): Promise<ShardIndex>;
  /** Returns the number of bytes of TFRecord files that the threads have read so far. */
  bytesRead(): number;
  /** Returns the paths of the shards that were opened since the last call. */
  takeOpened(): readonly string[];
  /** Returns the shards that are being read, the longest-awaited first. */
  openShards(): readonly OpenShard[];
  /** Closes all shards. Pending requests for their blocks reject with WORKER_DIED. The threads stay available for other shards. */
  closeShards(): Promise<void>;
  /** Stops the threads. */
  close(): Promise<void>;
}

const READER_MODULE = new URL("./reader-worker.js", import.meta.url);

/** Starts `readers` reader threads. A source's `next` rejects with the shard's error, at its place in the shard, or with WORKER_DIED. */
export function startReaders(readers: number, module = READER_MODULE): ReaderPool {
  const threads = Array.from({ length: readers }, () => new Reader(module));
  let opened: string[] = [];
  return {
    readers,
    open(path, reader, options) {
      opened.push(path);
      return (threads[reader % readers] as Reader).open(path, options);
    },
    index: (path, reader, options) => (threads[reader % readers] as Reader).index(path, options),
    bytesRead: () => threads.reduce((sum, { bytesRead }) => sum + bytesRead, 0),
    takeOpened() {
      const paths = opened;
      opened = [];
      return paths;
    },
    openShards: () => threads.flatMap((reader) => reader.openShards()).sort((a, b) => (b.waitedMs ?? -1) - (a.waitedMs ?? -1)),
    async closeShards() {
      await Promise.all(threads.map((reader) => reader.closeShards()));
    },
    async close() {
      await Promise.all(threads.map((reader) => reader.close()));
    },
  };
}

/** State of a shard that is being read; times are from `performance.now()`. */
interface Reading {
  readonly path: string;
  readonly blocks: AsyncQueue<Block>;
  readonly index: AsyncQueue<ShardIndex>;
  readonly openedMs: number;
  receivedMs: number | null;
  requestedMs: number | null;
}

class Reader {
  readonly #thread: WorkerThread<ReaderRequest>;
  readonly #readings = new Map<number, Reading>();
  readonly #shardsClosed = new AsyncQueue<void>();
  /** Bytes that the thread has read, as of its last message. */
  bytesRead = 0;
  #opened = 0;
  #exitError: NextvladError | null = null;
  #isClosed = false;

  constructor(module: URL) {
    this.#thread = startWorker<ReaderRequest, ReaderReply>(module, undefined, {
      onMessage: (reply) => this.#receive(reply),
      onExit: (exit) => {
        const files = Array.from(this.#readings.values(), ({ path }) => path);
        this.#exitError = workerExitError("a reader thread", exit, files, "check them with nextvlad verify, and the machine's memory");
        this.#failAll(this.#exitError);
        this.#shardsClosed.put();
      },
    });
  }

  open(path: string, options: BlockOptions): Source<Block> {
    const { source, reading } = this.#start(path);
    const { blocks } = reading;
    const thread = this.#thread;
    thread.post({ type: "open", source, path, options, credits: BLOCKS_AHEAD });
    return {
      next: async () => {
        reading.requestedMs = performance.now();
        const block = await blocks.take();
        reading.requestedMs = null;
        if (block.last) this.#readings.delete(source);
        return block;
      },
      release: ({ buffer, last }) => {
        if (!last || buffer.byteLength > MAX_DROPPED_BYTES) thread.post({ type: "credit", source, buffer }, [buffer]);
      },
    };
  }

  async index(path: string, options: BlockOptions): Promise<ShardIndex> {
    const { source, reading } = this.#start(path);
    this.#thread.post({ type: "index", source, path, options });
    reading.requestedMs = reading.openedMs;
    return reading.index.take().finally(() => this.#readings.delete(source));
  }

  #start(path: string): { readonly source: number; readonly reading: Reading } {
    const source = this.#opened++;
    const queues = { blocks: new AsyncQueue<Block>(), index: new AsyncQueue<ShardIndex>() };
    const reading: Reading = { path, ...queues, openedMs: performance.now(), receivedMs: null, requestedMs: null };
    if (this.#exitError !== null) fail(reading, this.#exitError);
    this.#readings.set(source, reading);
    return { source, reading };
  }

  openShards(): OpenShard[] {
    const nowMs = performance.now();
    const since = (ms: number | null): number | null => (ms === null ? null : nowMs - ms);
    return Array.from(this.#readings.values(), ({ path, openedMs, receivedMs, requestedMs }) => {
      return { path, openMs: nowMs - openedMs, quietMs: since(receivedMs), waitedMs: since(requestedMs) };
    });
  }

  async closeShards(): Promise<void> {
    this.#failAll(new NextvladError("WORKER_DIED", "reading was cancelled"));
    if (this.#exitError !== null || this.#isClosed) return;
    this.#thread.post({ type: "close-shards" });
    await this.#shardsClosed.take();
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#shardsClosed.put();
    return this.#thread.stop();
  }

  #receive(reply: ReaderReply): void {
    this.bytesRead = reply.bytesRead;
    if (reply.type === "shards-closed") {
      this.#shardsClosed.put();
      return;
    }
    const reading = this.#readings.get(reply.source);
    if (reading === undefined) return;
    reading.receivedMs = performance.now();
    if (reply.type === "block") reading.blocks.put(reply.block);
    else if (reply.type === "index") reading.index.put(reply.index);
    else reading.blocks.fail(deserializeError(reply.error));
  }

  #failAll(error: NextvladError): void {
    for (const reading of this.#readings.values()) fail(reading, error);
    this.#readings.clear();
  }
}

function fail({ blocks, index }: Reading, error: NextvladError): void {
  blocks.fail(error);
  index.fail(error);
}
