import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { selectTop, TopSelector } from "../../src/evaluation/top-k.js";

/** Scores with many ties, both zeros and both infinities. */
const arbitraryScores = fc.array(
  fc.oneof(fc.float({ noNaN: true }), fc.constantFrom(0, -0, 0.5, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY)),
  { maxLength: 200 },
);

function sortedClasses(scores: readonly number[]): number[] {
  return [...scores.keys()].sort((a, b) => (scores[a] === scores[b] ? a - b : (scores[b] as number) - (scores[a] as number)));
}

test("selectTop equals a full sort, ties by the lower class", () => {
  fc.assert(
    fc.property(arbitraryScores, fc.integer({ min: 0, max: 220 }), (scores, k) => {
      const expected = sortedClasses(scores).slice(0, k);
      const top = selectTop(Float32Array.from(scores), k);
      assert.deepEqual([...top.classes], expected);
      assert.deepEqual(
        [...top.scores],
        expected.map((c) => scores[c]),
      );
    }),
    { numRuns: 500 },
  );
});

test("rising, falling and equal rows", () => {
  const rising = Float32Array.from({ length: 3862 }, (_, c) => c);
  assert.deepEqual([...selectTop(rising, 3).classes], [3861, 3860, 3859]);
  assert.deepEqual([...selectTop(rising.toReversed(), 3).classes], [0, 1, 2]);
  assert.deepEqual([...selectTop(new Float32Array(3862), 3).classes], [0, 1, 2]);
});

test("a selector serves rows of a block one after another, whatever their k", () => {
  const selector = new TopSelector();
  const block = Float32Array.from({ length: 300 }, (_, i) => (i * 37) % 100);
  for (const [row, k] of [
    [0, 2],
    [1, 100],
    [2, 5],
  ] as const) {
    const kept = selector.select(block, row * 100, 100, k);
    assert.deepEqual([...selector.classes.subarray(0, kept)], sortedClasses([...block.subarray(row * 100, row * 100 + 100)]).slice(0, k));
  }
});

test("a NaN anywhere in the row is refused", () => {
  fc.assert(
    fc.property(
      fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 60 }),
      fc.nat(),
      fc.integer({ min: 1, max: 70 }),
      (scores, at, k) => {
        const row = Float32Array.from(scores);
        row[at % row.length] = Number.NaN;
        assert.throws(
          () => selectTop(row, k),
          (error) => error instanceof NextvladError && error.code === "NOT_FINITE" && error.message.includes(`class ${at % row.length} `),
        );
      },
    ),
  );
});
