import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createRandom, deriveSeed } from "../../src/base/random.js";

// Computed by commit 059705b. Other numbers would change the order of videos in a resumed run, and the digits generated from a seed.
describe("random numbers are the same in every version", () => {
  test("seeds of each sequence and counter", () => {
    const seeds: readonly [Parameters<typeof deriveSeed>, number][] = [
      [[0, "shards"], 1348811757],
      [[0, "shards", 0], -389172072],
      [[5, "videos", 3], -1874489467],
      [[5, "dropout", 7], 265669916],
      [[5, "dropout", 7, 1], -1313242863],
      [[2 ** 31 + 9, "initialization", 41, 1], 1276057058],
      [[1, "digits", 2 ** 32 + 1], 101058104],
      [[1, "digits", 2 ** 33 + 1], -1037160065],
    ];
    for (const [input, seed] of seeds) assert.equal(deriveSeed(...input), seed, String(input));
  });

  test("integers and shuffles of a seed", () => {
    assert.deepEqual(createRandom(5, "shards", 2).shuffle([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), [0, 5, 7, 1, 9, 4, 3, 2, 8, 6]);
    const random = createRandom(6, "videos", 1);
    const numbers = Array.from({ length: 12 }, () => random.below(1000));
    assert.deepEqual(numbers, [896, 836, 434, 165, 412, 162, 507, 190, 285, 778, 488, 118]);
  });
});
