import { createRandom, type Random } from "../base/random.js";
import type { Shard } from "./shard.js";

/** "shuffled": shards and videos in a new order each epoch. "sequential": the order of the list and of the files. */
export type Order = "shuffled" | "sequential";

/** Number of shards read concurrently in shuffled order, to spread out the videos of each. A constant, because the order of videos depends on it. */
export const OPEN_SHARDS = 8;

/** Returns the shards in the order in which an epoch opens them: the list's own, or one shuffled by seed and epoch. */
export function orderShards(shards: readonly Shard[], order: Order, seed: number, epoch: number): Shard[] {
  return order === "sequential" ? [...shards] : createRandom(seed, "shards", epoch).shuffle([...shards]);
}

/** Yields the blocks of a shard, one at a time. `next` must not be called after the last block. */
export interface Source<B extends { readonly last: boolean }> {
  next(): Promise<B>;
  /** Returns a block's memory to the reader, which then reads one more block ahead. The block's bytes must not be used afterwards. */
  release(block: B): void;
}

/**
 * Merges shards by blocks of videos. `slots` shards are open at a time, the slots yield blocks in round-robin order, and a slot whose shard has ended opens the
 * next shard.
 * A block is released when the next one is requested. The order of blocks depends only on `slots` and the number of blocks in each shard. `open` is called
 * once per shard, with its position and its slot.
 */
export async function* mergeShards<B extends { readonly last: boolean }>(
  count: number,
  slots: number,
  open: (position: number, slot: number) => Source<B>,
): AsyncGenerator<B, void> {
  let position = 0;
  const take = (slot: number): Source<B> | undefined => (position < count ? open(position++, slot) : undefined);
  const sources = Array.from({ length: slots }, (_, slot) => take(slot));
  for (let slot = 0; sources.some((source) => source !== undefined); slot = (slot + 1) % slots) {
    const source = sources[slot];
    if (source === undefined) continue;
    const block = await source.next();
    if (block.last) sources[slot] = take(slot);
    yield block;
    source.release(block);
  }
}

/** A shuffle buffer of up to `capacity` items. Once it is full, each new item replaces an item drawn at random. */
export class ShuffleBuffer<T> {
  readonly #capacity: number;
  readonly #random: Random;
  #items: T[] = [];

  constructor(capacity: number, random: Random) {
    this.#capacity = Math.max(1, capacity);
    this.#random = random;
  }

  /** Adds an item. Returns the item that it replaces, if any. */
  exchange(item: T): T | undefined {
    if (this.#items.length < this.#capacity) {
      this.#items.push(item);
      return undefined;
    }
    const place = this.#random.below(this.#capacity);
    const leaving = this.#items[place];
    this.#items[place] = item;
    return leaving;
  }

  /** The items that are in the buffer, in no particular order. */
  get items(): readonly T[] {
    return this.#items;
  }

  /** Removes and returns all items left, in random order. */
  drain(): T[] {
    const rest = this.#random.shuffle(this.#items);
    this.#items = [];
    return rest;
  }
}
