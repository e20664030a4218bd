import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fastestOnCpu, type Processor } from "../../src/kernels/choose.js";

const AVX512 = { byteInstructions: true };
const AVX2 = { byteInstructions: false };
const HIDDEN = { inputs: 36_864, outputs: 2048 };
const CLASSIFIER = { inputs: 2048, outputs: 3862 };
const GATING = { inputs: 2048, outputs: 256 };

describe("the choice of kernels", () => {
  test("uses our product for few rows: up to 64 with a matrix larger than the caches, else up to 2", () => {
    const rows = (matrix: typeof HIDDEN) => [1, 2, 32, 64, 65].filter((rows) => fastestOnCpu(AVX2).dense({ ...matrix, rows }));
    assert.deepEqual([HIDDEN, CLASSIFIER, GATING].map(rows), [
      [1, 2, 32, 64],
      [1, 2, 32, 64],
      [1, 2],
    ]);
  });

  test("computes gradients and Adam in one pass for few rows", () => {
    const rows = (processor: Processor) =>
      [8, 32, 48, 49, 160].filter((rows) => fastestOnCpu(processor).denseWithAdam({ ...HIDDEN, rows }));
    assert.deepEqual(
      [rows(AVX512), rows(AVX2)],
      [
        [8, 32, 48],
        [8, 32, 48],
      ],
    );
  });

  test("multiplies bytes in training only if the processor has the instruction, and only for large batches", () => {
    const bytes = [AVX512, AVX2].map((processor) => [999, 1000].map(fastestOnCpu(processor).bytesInTraining));
    assert.deepEqual(bytes, [
      [false, true],
      [false, false],
    ]);
  });
});
