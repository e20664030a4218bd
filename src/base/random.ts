import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** One of the independent streams of chance that a run's single seed feeds. */
export type Stream = "shards" | "videos" | "dropout" | "initialisation" | "digits";

const STREAM_NUMBER: Record<Stream, number> = { shards: 1, videos: 2, dropout: 3, initialisation: 4, digits: 5 };

/** The finaliser of MurmurHash3 (public domain, A. Appleby): every bit of the input moves half the bits of the output. */
function mix(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) | 0;
}

/**
 * The 32-bit seed of one use of chance: a pure function of the run's seed, the stream and its counters (epoch, step, a parameter's number),
 * so that any point of a run can be reached without replaying what came before.
 */
export function deriveSeed(seed: number, stream: Stream, ...counters: readonly number[]): number {
  let hash = mix(seed | 0);
  for (const value of [STREAM_NUMBER[stream], ...counters]) {
    hash = mix(hash ^ (value | 0)) + Math.imul(Math.floor(value / 2 ** 32), 0x9e3779b1) + 0x9e3779b9;
  }
  return mix(hash);
}

/** Seeded random integers for shuffling and for making data, equal on every machine. */
export interface Random {
  /** A whole number in 0..bound-1, each equally likely. */
  below(bound: number): number;
  /** Puts the items into a random order, in place (Fisher and Yates). */
  shuffle<T>(items: T[]): T[];
}

/** A generator of its own for (seed, stream, counters): see `deriveSeed`. */
export function createRandom(seed: number, stream: Stream, ...counters: readonly number[]): Random {
  const generator = xoroshiro128plus(deriveSeed(seed, stream, ...counters));
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
