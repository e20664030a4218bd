import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fastestOnCpu, type Processor } from "../../src/kernels/choose.js";

const AVX512 = { byteInstructions: true };
const AVX2 = { byteInstructions: false };
const HIDDEN = { inputs: 36_864, outputs: 2048 };
const CLASSIFIER = { inputs: 2048, outputs: 3862 };
const GATING = { inputs: 2048, outputs: 256 };
/** AudioSet's clips and YouTube-8M's videos. */
const CLIPS = { frames: 1280, videos: 128, expanded: 256, clusters: 64 };
/** Videos of 128 frames count as short, of 300 as long. */
const VIDEOS = { frames: 9600, videos: 32, expanded: 2048, clusters: 128 };

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

  test("sums the frames of short videos in one kernel, and of long ones with TensorFlow's products", () => {
    for (const processor of [AVX512, AVX2]) {
      const { frameSums } = fastestOnCpu(processor);
      const frames = [4096, 4097, 9600].map((frames) => frameSums({ ...VIDEOS, frames }));
      assert.deepEqual([frameSums(CLIPS), ...frames], [true, true, false, false]);
    }
  });

  test("multiplies bytes in training only if the processor has the instruction, and only for large batches", () => {
    const bytes = [AVX512, AVX2].map((processor) => [999, 1000].map(fastestOnCpu(processor).bytesInTraining));
    assert.deepEqual(bytes, [
      [false, true],
      [false, false],
    ]);
  });
});
