import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fastestKernels, type Machine, ourKernels } from "../../src/tensorflow/kernel-choice.js";

const AVX512 = { device: "cpu", vectorBits: 512, byteInstructions: true } as const;
const AVX2 = { device: "cpu", vectorBits: 256, byteInstructions: false } as const;
const GPU = { device: "gpu", vectorBits: 512, byteInstructions: true } as const;
const HIDDEN = { inputs: 36_864, outputs: 2048 };
const CLASSIFIER = { inputs: 2048, outputs: 3862 };
/** AudioSet's clips and YouTube-8M's videos. */
const CLIPS = { frames: 1280, videos: 128, expanded: 256, clusters: 64 };
/** 128 frames a video are short still, 300 are not. */
const VIDEOS = { frames: 9600, videos: 32, expanded: 2048, clusters: 128 };

describe("the choice of kernels", () => {
  test("takes our product of a few rows: of up to 64 with AVX-512 and a matrix beyond the caches, of 2 otherwise, of none on a GPU", () => {
    const rows = (machine: Machine, matrix: typeof HIDDEN | typeof CLASSIFIER) =>
      [1, 2, 32, 64, 65].filter((rows) => fastestKernels(machine).denseProduct({ ...matrix, rows }));
    assert.deepEqual(
      [rows(AVX512, HIDDEN), rows(AVX512, CLASSIFIER)],
      [
        [1, 2, 32, 64],
        [1, 2],
      ],
    );
    assert.deepEqual([rows(AVX2, HIDDEN), rows(AVX2, CLASSIFIER), rows(GPU, HIDDEN)], [[1, 2], [1, 2], []]);
  });

  test("takes gradients and Adam in one pass for few rows, and on no GPU", () => {
    const rows = (machine: Machine) => [8, 32, 48, 49, 160].filter((rows) => fastestKernels(machine).denseAdam({ ...HIDDEN, rows }));
    assert.deepEqual([rows(AVX512), rows(AVX2), rows(GPU)], [[8, 32, 48], [8, 32, 48], []]);
  });

  test("sums the frames of short videos in one kernel, and of long ones by TensorFlow's products", () => {
    for (const machine of [AVX512, AVX2]) {
      const { frameSums } = fastestKernels(machine);
      const frames = [4096, 4097, 9600].map((frames) => frameSums({ ...VIDEOS, frames }));
      assert.deepEqual([frameSums(CLIPS), ...frames], [true, true, false, false]);
    }
    assert.equal(fastestKernels(GPU).frameSums(CLIPS), false);
  });

  test("multiplies bytes only where the processor has the instruction, and pads only on a GPU", () => {
    const flags = [AVX512, AVX2, GPU].map((machine) => {
      const { bytes, byteFeatures, gpu, fused } = fastestKernels(machine);
      return { bytes, training: [160, 9600].map(byteFeatures), gpu, fused };
    });
    assert.deepEqual(flags, [
      { bytes: true, training: [false, true], gpu: false, fused: true },
      { bytes: false, training: [false, false], gpu: false, fused: true },
      { bytes: false, training: [false, false], gpu: true, fused: true },
    ]);
    assert.deepEqual(
      [AVX2, GPU].map((machine) => ourKernels(machine).denseAdam({ ...HIDDEN, rows: 512 })),
      [true, false],
    );
  });
});
