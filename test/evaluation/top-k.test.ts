import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { type Top, TopSelector } from "../../src/evaluation/top-k.js";

/** Scores with many ties, both zeros and both infinities. */
const arbitraryScores = fc.array(
  fc.oneof(fc.float({ noNaN: true }), fc.constantFrom(0, -0, 0.5, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY)),
  { maxLength: 200 },
);

function selectTop(row: Float32Array, k: number): Top {
  return new TopSelector().selectRow(row, 0, row.length, k);
}

function sortedClasses(scores: readonly number[]): number[] {
  return [...scores.keys()].sort((a, b) => (scores[a] === scores[b] ? a - b : (scores[b] as number) - (scores[a] as number)));
}

test("the top k equals a full sort, ties by class, lower first", () => {
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

test("ascending, descending and constant rows", () => {
  const rising = Float32Array.from({ length: 3862 }, (_, c) => c);
  assert.deepEqual([...selectTop(rising, 3).classes], [3861, 3860, 3859]);
  assert.deepEqual([...selectTop(rising.toReversed(), 3).classes], [0, 1, 2]);
  assert.deepEqual([...selectTop(new Float32Array(3862), 3).classes], [0, 1, 2]);
});

test("selects rows of a block one after another, with any k", () => {
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

/** Rows enough for a floor to be taken from those before, whose levels differ: below it, at it, above it, and empty of finite scores. */
const arbitraryBlocks = fc.integer({ min: 1, max: 12 }).chain((numClasses) =>
  fc.record({
    numClasses: fc.constant(numClasses),
    rows: fc.array(
      fc
        .tuple(
          fc.constantFrom(-1000, -1, 0, 1, 1000, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY),
          fc.array(fc.constantFrom(-0, 0, 1, 2, 3), { minLength: numClasses, maxLength: numClasses }),
          fc.constantFrom(1, 1, 1, 3, 5, 13),
        )
        .map(([level, scores, k]) => ({ scores: scores.map((score) => score + level), k })),
      { minLength: 1, maxLength: 80 },
    ),
    sameK: fc.boolean(),
  }),
);

test("earlier rows do not affect the result", () => {
  fc.assert(
    fc.property(arbitraryBlocks, ({ numClasses, rows, sameK }) => {
      const block = Float32Array.from(rows.flatMap(({ scores }) => scores));
      const selector = new TopSelector();
      for (const [row, { scores, k }] of rows.entries()) {
        const wanted = sameK ? 3 : k;
        const { classes } = selector.selectRow(block, row, numClasses, wanted);
        assert.deepEqual([...classes], sortedClasses(scores).slice(0, wanted));
      }
    }),
    { numRuns: 300 },
  );
});

test("small and large k on a long row, one after another", () => {
  const scores = Float32Array.from({ length: 3862 }, (_, c) => (c % 97 === 0 ? Number.POSITIVE_INFINITY : (c * 1031) % 1000));
  scores.fill(Number.NEGATIVE_INFINITY, 50, 90);
  const expected = sortedClasses([...scores]);
  const selector = new TopSelector();
  for (const k of [20, 1024, 1025, 20, 5000, 3862, 1]) {
    const { classes } = selector.selectRow(scores, 0, 3862, k);
    assert.deepEqual([...classes], expected.slice(0, k));
  }
  scores[3861] = Number.NaN;
  for (const k of [20, 3862]) {
    assert.throws(
      () => selector.selectRow(scores, 0, 3862, k),
      (error) => error instanceof NextvladError && error.code === "NOT_FINITE" && error.message.includes("class 3861 for video 0 "),
    );
  }
});

test("finds a NaN after rows with higher or lower scores", () => {
  for (const level of [-1, 1]) {
    const block = new Float32Array(41 * 30).fill(level);
    block[40 * 30 + 29] = Number.NaN;
    block.fill(0, 40 * 30, 40 * 30 + 29);
    const selector = new TopSelector();
    for (let row = 0; row < 40; row++) selector.selectRow(block, row, 30, 5);
    assert.throws(
      () => selector.selectRow(block, 40, 30, 5),
      (error) => error instanceof NextvladError && error.code === "NOT_FINITE" && error.message.includes("class 29 for video 40 "),
    );
  }
});

test("a NaN anywhere in the row is an error", () => {
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
