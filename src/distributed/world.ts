import { NextvladError } from "../base/errors.js";
import { crc32c } from "../formats/crc32.js";
import { awaitCollective, type Collective, type Started, startAllGather, startAllReduce } from "../kernels/collective-ops.js";
import { concat, reshape, slice } from "../kernels/tensorflow-ops.js";
import { checkRanks } from "../runtime/server.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { fromFloats, toFloats } from "../runtime/transfer.js";
import type { Cluster } from "./cluster.js";
import { awaitListeners } from "./listeners.js";
import { mapPending, type Pending } from "./pending.js";

/** Exchanged numbers are integers below this, which float32 represents exactly. */
export const MAX_EXACT = 2 ** 24;

/** Seconds that the ranks have to start and to connect. */
const CONNECT_SECONDS = 120;
/** Maximum number of ranks in a message. */
const NAMED_RANKS = 8;

/** The status codes of an op that fails because of another rank: cancelled, too late, another process at its address, aborted, or not reachable. */
const FAILED_RANK = /^Invalid TF_Status: (?:1|4|9|10|14)$/m;

/** The ranks that compute a run together, and what they exchange. All of them start the same exchanges in the same order. */
export class World {
  readonly rank: number;
  readonly size: number;
  readonly #addresses: readonly string[];
  /** The next key of each collective op and shape. */
  readonly #keys = new Map<string, number>();
  readonly #connectSeconds: number;
  #timeoutSeconds = 0;
  #waitedMs = 0;
  /** Bytes of the longest text that an exchange has room for; the same on all ranks. */
  #textBytes = 4096;

  constructor({ addresses, rank }: Cluster, connectSeconds = CONNECT_SECONDS) {
    this.#addresses = addresses;
    this.#connectSeconds = connectSeconds;
    this.rank = rank;
    this.size = addresses.length;
  }

  /** Seconds that this rank has waited for exchanges so far. */
  get waitedSeconds(): number {
    return this.#waitedMs / 1000;
  }

  /** Returns the ranks' tensors (float32, of the same shape), concatenated along the first dimension. Borrows x. */
  gather(x: Tensor): Tensor {
    return this.startGather(x).wait();
  }

  /** Starts `gather`. */
  startGather(x: Tensor): Pending<Tensor> {
    return this.#start(startAllGather, x);
  }

  /** Returns the sums of the ranks' tensors, computed in one exchange. Borrows the tensors. */
  sumAll(tensors: readonly Tensor[]): readonly Tensor[] {
    return this.startSum(tensors).wait();
  }

  /** Starts `sumAll`. */
  startSum(tensors: readonly Tensor[]): Pending<readonly Tensor[]> {
    const shapes = tensors.map(({ shape }) => shape);
    const flat = tidy(() => this.#start(startAllReduce, concatFlat(tensors)));
    return mapPending(flat, (sums) => {
      let begin = 0;
      return shapes.map((shape) => {
        const size = shape.reduce((product, length) => product * length, 1);
        const part = reshape(slice(sums, [begin], [size]), shape);
        begin += size;
        return part;
      });
    });
  }

  /** Returns the ranks' numbers, which float32 represents exactly, by rank. All ranks pass the same number of them. */
  exchange(values: readonly number[]): readonly (readonly number[])[] {
    const all = tidy(() => toFloats(this.gather(fromFloats(Float32Array.from(values), [values.length]))));
    return Array.from({ length: this.size }, (_, rank) => Array.from(all.subarray(rank * values.length, (rank + 1) * values.length)));
  }

  /** Returns the ranks' texts, by rank. */
  exchangeTexts(text: string): readonly string[] {
    const bytes = new TextEncoder().encode(text);
    const all = this.exchange([bytes.length, ...padded(bytes, this.#textBytes)]);
    const longest = Math.max(...all.map(([length = 0]) => length));
    if (longest <= this.#textBytes) return all.map(([length = 0, ...found]) => decodeText(found, length));
    // All ranks' tensors in an exchange have the same size: make room for the longest, and for later ones that are somewhat longer.
    this.#textBytes = 2 ** Math.ceil(Math.log2(longest));
    return this.exchangeTexts(text);
  }

  /**
   * Waits until all ranks have started, and checks that each has the same facts, given by name as values of JSON. Throws RANK_FAILED if a rank does not start in
   * time, and RANKS_DIFFER.
   */
  async connect(facts: Readonly<Record<string, unknown>>): Promise<void> {
    this.#timeoutSeconds = await this.#awaitRanks();
    const all = this.exchange(Object.values(facts).map(hash));
    this.#timeoutSeconds = 0;
    checkRanks();
    this.assertSame(Object.keys(facts), all);
  }

  /** Throws RANKS_DIFFER if a rank's values differ from those of rank 0. */
  assertSame(names: readonly string[], all: readonly (readonly number[])[]): void {
    for (const [rank, values] of all.entries()) {
      const differing = names.filter((_, i) => values[i] !== all[0]?.[i]);
      if (differing.length === 0) continue;
      const remedy = "start all ranks with the same command and files; NEXTVLAD_ISA and --threads set the processor level and the threads";
      throw new NextvladError("RANKS_DIFFER", `${this.#describe(rank)} differs from rank 0 in ${differing.join(", ")}`, { remedy });
    }
  }

  /**
   * Waits until all other ranks listen, because a failed collective op does not say which ranks are missing. Returns the seconds that are left for that op, at
   * least 1. Throws RANK_FAILED.
   */
  async #awaitRanks(): Promise<number> {
    const sinceMs = performance.now();
    const others = this.#addresses.filter((_, rank) => rank !== this.rank);
    const missing = await awaitListeners(others, 1000 * this.#connectSeconds);
    if (missing.length === 0) return Math.max(1, this.#connectSeconds - (performance.now() - sinceMs) / 1000);
    const named = missing.slice(0, NAMED_RANKS).map((address) => this.#describe(this.#addresses.indexOf(address)));
    const more = missing.length > NAMED_RANKS ? ` and ${missing.length - NAMED_RANKS} more` : "";
    const remedy = "see the output of these ranks, and check that their hosts and ports can be reached from this one";
    throw new NextvladError("RANK_FAILED", `no connection within ${this.#connectSeconds} s to ${named.join(", ")}${more}`, { remedy });
  }

  #start(begin: (x: Tensor, collective: Collective) => Started, x: Tensor): Pending<Tensor> {
    const key = this.#takeKey(`${begin.name} ${x.shape}`);
    const started = this.#explained(() => begin(x, { ranks: this.size, key, timeoutSeconds: this.#timeoutSeconds }));
    const wait = (): Tensor => {
      const sinceMs = performance.now();
      const result = this.#explained(() => awaitCollective(started));
      this.#waitedMs += performance.now() - sinceMs;
      return result;
    };
    return { wait };
  }

  /**
   * Returns the key of the next collective op of that name and shape. TensorFlow keeps a key's shape and some memory, so each has two keys, used in turn: the ops
   * run one after another, and one ends only after all ranks have begun it, so they have ended all earlier ones.
   */
  #takeKey(op: string): number {
    const key = this.#keys.get(op) ?? 2 * this.#keys.size + 1;
    this.#keys.set(op, key % 2 === 1 ? key + 1 : key - 1);
    return key;
  }

  /** Runs a collective op. Throws RANK_FAILED if it fails because of another rank. */
  #explained<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw this.#explain(error);
    }
  }

  /** Returns the error to throw for a failed collective op: a rank has died, does not respond, or has not started. */
  #explain(error: unknown): unknown {
    if (!(error instanceof NextvladError) || error.code !== "KERNEL_FAILED") return error;
    const text = error.cause instanceof Error ? error.cause.message : "";
    if (!FAILED_RANK.test(text)) return error;
    const named = [
      ...(/\/task:(\d+) does not respond/.exec(text)?.slice(1) ?? []),
      ...Array.from(text.matchAll(/\/task:(\d+)/g), ([, rank]) => rank),
    ];
    const other = named.map(Number).find((rank) => rank !== this.rank);
    const failed = other === undefined ? "a rank" : this.#describe(other);
    const isLate = /timed out/i.test(text);
    const what = isLate ? `all ranks listen, but not all have connected within ${this.#connectSeconds} s` : `${failed} does not respond`;
    const remedy = `see the output of ${isLate ? "each" : "that"} rank; --resume works on any number of ranks`;
    return new NextvladError("RANK_FAILED", what, { remedy }, error);
  }

  #describe(rank: number): string {
    return `rank ${rank} (${this.#addresses[rank]})`;
  }
}

function hash(value: unknown): number {
  return crc32c(JSON.stringify(value) ?? "") % MAX_EXACT;
}

/** Returns the first `size` bytes, with zeros after the last. */
function padded(bytes: Uint8Array, size: number): Uint8Array {
  const all = new Uint8Array(size);
  all.set(bytes.subarray(0, size));
  return all;
}

function decodeText(bytes: readonly number[], length: number): string {
  return new TextDecoder().decode(Uint8Array.from(bytes.slice(0, length)));
}

function concatFlat(tensors: readonly Tensor[]): Tensor {
  return concat(
    tensors.map((tensor) => reshape(tensor, [tensor.size])),
    0,
  );
}

/** A process on its own. */
export const ALONE = new World({ addresses: [""], rank: 0 });
