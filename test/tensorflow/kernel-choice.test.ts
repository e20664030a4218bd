import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fastestKernels, ourKernels } from "../../src/tensorflow/kernel-choice.js";

const AVX512 = { device: "cpu", vectorBits: 512, byteInstructions: true } as const;
const AVX2 = { device: "cpu", vectorBits: 256, byteInstructions: false } as const;
const GPU = { device: "gpu", vectorBits: 512, byteInstructions: true } as const;
const HIDDEN = { inputs: 36_864, outputs: 2048 };
/** AudioSet's clips and YouTube-8M's videos. */
const CLIPS = { frames: 1280, videos: 128, expanded: 256, clusters: 64 };
const VIDEOS = { frames: 9600, videos: 32, expanded: 2048, clusters: 128 };

describe("the choice of kernels", () => {
  test("takes our product of a few rows: of 32 with AVX-512, of 2 with AVX2, of none on a GPU", () => {
    const rows = (machine: typeof AVX512 | typeof AVX2 | typeof GPU) =>
      [1, 2, 32, 160].filter((rows) => fastestKernels(machine).denseProduct({ ...HIDDEN, rows }));
    assert.deepEqual([rows(AVX512), rows(AVX2), rows(GPU)], [[1, 2, 32], [1, 2], []]);
  });

  test("sums the frames of short videos in one kernel, and of long ones by TensorFlow's products", () => {
    for (const machine of [AVX512, AVX2]) {
      const { frameSums } = fastestKernels(machine);
      assert.deepEqual([frameSums(CLIPS), frameSums(VIDEOS)], [true, false]);
    }
    assert.equal(fastestKernels(GPU).frameSums(CLIPS), false);
  });

  test("multiplies bytes only where the processor has the instruction, and pads only on a GPU", () => {
    const flags = [AVX512, AVX2, GPU].map((machine) => {
      const { bytes, gpu, fused } = fastestKernels(machine);
      return { bytes, gpu, fused };
    });
    assert.deepEqual(flags, [
      { bytes: true, gpu: false, fused: true },
      { bytes: false, gpu: false, fused: true },
      { bytes: false, gpu: true, fused: true },
    ]);
    assert.deepEqual(
      [AVX2, GPU].map((machine) => ourKernels(machine).denseAdam({ ...HIDDEN, rows: 512 })),
      [true, false],
    );
  });
});
