import { deserialiseError, NextvladError } from "../base/errors.js";
import type { Block, BlockOptions, BlockSource } from "./block.js";
import { Inbox } from "./inbox.js";
import type { ReaderReply, ReaderRequest } from "./reader-worker.js";
import { startThread, type Thread } from "./thread.js";

/** Blocks that a reading thread may send of one shard before the first is given back; it holds one more in its hands. */
const BLOCKS_AHEAD = 3;

/** Threads that read shards ahead, each by as much as its queue holds. */
export interface ReaderPool {
  /** How many threads there are. */
  readonly readers: number;
  /** Starts reading a shard in the given thread (counted modulo their number). */
  open(path: string, reader: number, options: BlockOptions): BlockSource;
  /** Closes all shards; whoever waits for a block of theirs waits in vain, and is told so. The threads wait for others. */
  rest(): Promise<void>;
  close(): Promise<void>;
}

const READER_MODULE = new URL("./reader-worker.js", import.meta.url);

/** Starts `readers` reading threads. A source's `next` rejects with what befell its shard, at its place in the shard, or with WORKER_DIED. */
export function startReaders(readers: number, module = READER_MODULE): ReaderPool {
  const threads = Array.from({ length: readers }, () => new Reader(module));
  return {
    readers,
    open: (path, reader, options) => (threads[reader % readers] as Reader).open(path, options),
    async rest() {
      await Promise.all(threads.map((reader) => reader.rest()));
    },
    async close() {
      await Promise.all(threads.map((reader) => reader.close()));
    },
  };
}

class Reader {
  readonly #thread: Thread<ReaderRequest>;
  readonly #inboxes = new Map<number, Inbox<Block>>();
  #resting = new Inbox<void>();
  #opened = 0;
  #death: NextvladError | null = null;

  constructor(module: URL) {
    this.#thread = startThread<ReaderRequest, ReaderReply>(module, undefined, {
      message: (reply) => this.#take(reply),
      died: (error) => {
        this.#death = error;
        this.#failAll(error);
        this.#resting.put();
      },
    });
  }

  open(path: string, options: BlockOptions): BlockSource {
    const source = this.#opened++;
    const thread = this.#thread;
    const inbox = new Inbox<Block>();
    if (this.#death !== null) inbox.fail(this.#death);
    this.#inboxes.set(source, inbox);
    thread.post({ type: "open", source, path, options });
    for (let credit = 0; credit < BLOCKS_AHEAD; credit++) thread.post({ type: "credit", source, slab: null });
    return {
      next: async () => {
        const block = await inbox.take();
        if (block.last) this.#inboxes.delete(source);
        return block;
      },
      giveBack: ({ slab }) => thread.post({ type: "credit", source, slab }, [slab]),
    };
  }

  async rest(): Promise<void> {
    this.#failAll(new NextvladError("WORKER_DIED", "reading was ended before the shard was"));
    if (this.#death !== null) return;
    this.#thread.post({ type: "rest" });
    await this.#resting.take();
  }

  close(): Promise<void> {
    return this.#thread.stop();
  }

  #take(reply: ReaderReply): void {
    if (reply.type === "resting") this.#resting.put();
    else if (reply.type === "block") this.#inboxes.get(reply.source)?.put(reply.block);
    else this.#inboxes.get(reply.source)?.fail(deserialiseError(reply.error));
  }

  #failAll(error: NextvladError): void {
    for (const inbox of this.#inboxes.values()) inbox.fail(error);
    this.#inboxes.clear();
  }
}
