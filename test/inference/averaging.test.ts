import assert from "node:assert/strict";
import { test } from "node:test";
import { Averager } from "../../src/inference/averaging.js";

const prediction = (pairs: Record<number, number>) => ({
  scores: Float32Array.from(Object.values(pairs)),
  classes: Int32Array.from(Object.keys(pairs), Number),
});

test("a class that a prediction lacks counts 0 in it; equal averages rank by the lower class", () => {
  const averager = new Averager([1, 1]);
  const { scores, classes } = averager.average([prediction({ 7: 0.5, 3: 0.25 }), prediction({ 9: 0.5, 3: 0.5, 1: 0.125 })]);
  assert.deepEqual([...classes], [3, 7, 9, 1]);
  assert.deepEqual([...scores], [0.375, 0.25, 0.25, 0.0625]);
  assert.deepEqual([...averager.average([prediction({}), prediction({})]).classes], []);
});

test("weights count by their share of the sum; the average of the same is the same", () => {
  const same = prediction({ 5: 0.1, 2: 1e-30 });
  const { scores } = new Averager([3, 0, 7]).average([same, prediction({ 5: 1 }), same]);
  assert.deepEqual(scores, Float32Array.of(0.1, 1e-30));
  const quarter = new Averager([30, 10]).average([prediction({ 1: 1 }), prediction({ 2: 1 })]);
  assert.deepEqual(
    [[...quarter.classes], [...quarter.scores]],
    [
      [1, 2],
      [0.75, 0.25],
    ],
  );
});

test("weights at the limits of float64 count by their share too", () => {
  const [a, b] = [prediction({ 1: 0.75 }), prediction({ 1: 0.25 })];
  for (const [weights, expected] of [
    [[1e308, 1e308], 0.5],
    [[Number.MAX_VALUE, Number.MAX_VALUE / 3], 0.625],
    [[1e-320, 1e-320], 0.5],
    [[1.5e-323, 5e-324], 0.625],
    [[1e308, 1e-320], 0.75],
  ] as const) {
    const { scores } = new Averager(weights).average([a, b]);
    assert.deepEqual([...scores], [expected], String(weights));
  }
});
