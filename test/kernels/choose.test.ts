import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fastestOnCpu } from "../../src/kernels/choose.js";
import type { ProductSize } from "../../src/kernels/cpu.js";

const AVX512 = { byteInstructions: true };
const AVX2 = { byteInstructions: false };
const HIDDEN = { terms: 36_864, columns: 2048 };
const CLASSIFIER = { terms: 2048, columns: 3862 };
const GATING = { terms: 2048, columns: 256 };

describe("the choice of kernels", () => {
  test("reads the right factor row by row for few rows: up to 64 with a matrix larger than the caches, else up to 2, and never transposed", () => {
    const rows = (matrix: typeof HIDDEN) => [1, 2, 32, 64, 65].filter((rows) => fastestOnCpu(AVX2).matMul({ ...matrix, rows }) === "rows");
    assert.deepEqual([HIDDEN, CLASSIFIER, GATING].map(rows), [
      [1, 2, 32, 64],
      [1, 2, 32, 64],
      [1, 2],
    ]);
    for (const form of [{ transposeA: true }, { transposeB: true }])
      assert.notEqual(fastestOnCpu(AVX2).matMul({ ...HIDDEN, rows: 2, ...form }), "rows");
  });

  test("copies the factors of products of medium size to panels, in any form", () => {
    const isChosen = (size: ProductSize): boolean => fastestOnCpu(AVX2).matMul(size) === "panels";
    const medium = { rows: 128, terms: 512, columns: 256 };
    assert.deepEqual([medium, { ...medium, transposeA: true }, { ...medium, transposeB: true }].map(isChosen), [true, true, true]);
    assert.deepEqual(
      [
        { ...medium, rows: 127 },
        { ...medium, columns: 64 },
        { ...medium, terms: 2048 },
      ].map(isChosen),
      [false, false, false],
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
