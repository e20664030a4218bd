import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Names of the independent random sequences that are derived from a run's seed. */
export type RandomSequence = "shards" | "videos" | "dropout" | "initialization" | "digits" | "mixup" | "repeats";

const SEQUENCE_NUMBER: Record<RandomSequence, number> = {
  shards: 1,
  videos: 2,
  dropout: 3,
  initialization: 4,
  digits: 5,
  mixup: 6,
  repeats: 7,
};

/** The finalizer of MurmurHash3 (public domain, A. Appleby): each input bit flips about half of the output bits. */
function mix(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) | 0;
}

/**
 * Returns the 32-bit seed of one random sequence: a pure function of the run's seed, the sequence and its counters (epoch, step, parameter index), so a run can
 * resume at any point without replaying what came before.
 */
export function deriveSeed(seed: number, sequence: RandomSequence, ...counters: readonly number[]): number {
  let hash = mix(seed | 0);
  for (const value of [SEQUENCE_NUMBER[sequence], ...counters]) {
    hash = mix(hash ^ (value | 0)) + Math.imul(Math.floor(value / 2 ** 32), 0x9e3779b1) + 0x9e3779b9;
  }
  return mix(hash);
}

/** Seeded random integers for shuffling and for generating data, identical on every machine. */
export interface Random {
  /** Returns a uniformly distributed integer in [0, bound). */
  below(bound: number): number;
  /** Shuffles the items in place (Fisher-Yates), and returns them. */
  shuffle<T>(items: T[]): T[];
}

/** Returns a new generator, seeded by `deriveSeed(seed, sequence, ...counters)`. */
export function createRandom(seed: number, sequence: RandomSequence, ...counters: readonly number[]): Random {
  const generator = xoroshiro128plus(deriveSeed(seed, sequence, ...counters));
  const below = (bound: number): number => uniformInt(generator, 0, bound - 1);
  return {
    below,
    shuffle<T>(items: T[]): T[] {
      for (let i = items.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [items[i], items[j]] = [items[j] as T, items[i] as T];
      }
      return items;
    },
  };
}
