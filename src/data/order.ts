import { createRandom, type Random } from "../base/random.js";
import type { Block, BlockSource } from "./block.js";

/** "shuffled": shards and videos in a new order each epoch. "sequential": in the list's and the files' own. */
export type Order = "shuffled" | "sequential";

/** Shards read side by side in shuffled order, so that the videos of one are spread out. A constant: the order of videos depends on it. */
export const OPEN_SHARDS = 8;

/** The shards in the order in which an epoch opens them: the list's own, or one drawn by seed and epoch. */
export function orderShards(shards: readonly string[], order: Order, seed: number, epoch: number): string[] {
  return order === "sequential" ? [...shards] : createRandom(seed, "shards", epoch).shuffle([...shards]);
}

/**
 * Merges shards by blocks of videos: `slots` shards are open at a time, each slot gives a block in turn, and a slot whose shard has ended takes the next one.
 * A block is given back when the next one is asked for. Which block comes next depends on nothing but the number of blocks in each shard. `open` is called once a shard, with its position and its slot.
 */
export async function* mergeShards(
  count: number,
  slots: number,
  open: (position: number, slot: number) => BlockSource,
): AsyncGenerator<Block, void> {
  let position = 0;
  const take = (slot: number): BlockSource | undefined => (position < count ? open(position++, slot) : undefined);
  const sources = Array.from({ length: slots }, (_, slot) => take(slot));
  for (let slot = 0; sources.some((source) => source !== undefined); slot = (slot + 1) % slots) {
    const source = sources[slot];
    if (source === undefined) continue;
    const block = await source.next();
    if (block.last) sources[slot] = take(slot);
    yield block;
    source.giveBack(block);
  }
}

/** A shuffle buffer: holds up to `capacity` items; once it is full, each new one takes the place of one drawn at random, which leaves. */
export class ShuffleBuffer<T> {
  readonly #capacity: number;
  readonly #random: Random;
  #held: T[] = [];

  constructor(capacity: number, random: Random) {
    this.#capacity = Math.max(1, capacity);
    this.#random = random;
  }

  /** Takes an item in; the one that leaves, if any. */
  exchange(item: T): T | undefined {
    if (this.#held.length < this.#capacity) {
      this.#held.push(item);
      return undefined;
    }
    const place = this.#random.below(this.#capacity);
    const leaving = this.#held[place];
    this.#held[place] = item;
    return leaving;
  }

  /** Gives all that is left, in random order. */
  drain(): T[] {
    const rest = this.#random.shuffle(this.#held);
    this.#held = [];
    return rest;
  }
}
