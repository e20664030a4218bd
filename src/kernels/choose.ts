import { runtime } from "../runtime/runtime.js";
import { type CpuChoice, cpuKernels } from "./cpu.js";
import { GPU_KERNELS } from "./gpu.js";
import type { Kernels } from "./types.js";

/** The processor that native/ was compiled for. */
export interface Processor {
  /** 512 with AVX-512, 256 with AVX2. */
  readonly vectorBits: number;
  /** Whether one instruction multiplies 64 bytes (AVX512-VNNI). */
  readonly byteInstructions: boolean;
}

/** The fastest kernels on the device of the loaded library: call it once, after `loadTensorflow`, and pass the result on. */
export function chooseKernels(): Kernels {
  const { device, native } = runtime();
  return device.kind === "gpu" ? GPU_KERNELS : cpuKernels(fastestOnCpu(native));
}

/** All kernels of ours that the device has, whatever the size: for tests and benchmarks. */
export function ownKernels(): Kernels {
  const { device, native } = runtime();
  return device.kind === "gpu" ? GPU_KERNELS : cpuKernels(alwaysOurs(native));
}

/** Every kernel of ours that the processor has, whatever the size. */
export function alwaysOurs({ byteInstructions }: Processor): CpuChoice {
  return {
    bytesInInference: byteInstructions,
    bytesInTraining: () => byteInstructions,
    dense: () => true,
    denseWithAdam: () => true,
    frameSums: () => true,
  };
}

// Where ours are faster than TensorFlow's on a CPU, as scripts/bench/kernels.ts measures it (docs/performance.md, "Which kernel computes"). With many rows,
// TensorFlow's matrix products are faster; ours save passes over memory and the start of many small kernels.

/** Rows up to which a product takes as long as one read of the matrix, whatever its size. */
const STREAMED_ROWS = 2;
/** With AVX-512, of a matrix that no cache holds, the same is true of more rows. */
const LARGE_MATRIX_BYTES = 2 ** 27;
const LARGE_MATRIX_ROWS = 64;
/** Rows up to which not writing and reading the gradient saves more than a slower product costs. */
const DENSE_ADAM_ROWS = 48;
/** Frames of a batch from which splitting the weights into integers costs less than it saves. */
const BYTE_FRAMES = 1000;
/** Frames of a video times D times K, up to which starting TensorFlow's products takes longer than ours compute. */
const FRAME_SUMS_SIZE = 2 ** 25;

/** The faster kernel for each size on this processor. */
export function fastestOnCpu({ vectorBits, byteInstructions }: Processor): CpuChoice {
  return {
    bytesInInference: byteInstructions,
    bytesInTraining: (frames) => byteInstructions && frames >= BYTE_FRAMES,
    dense: ({ rows, inputs, outputs }) =>
      rows <= STREAMED_ROWS || (vectorBits === 512 && rows <= LARGE_MATRIX_ROWS && inputs * outputs * 4 >= LARGE_MATRIX_BYTES),
    denseWithAdam: ({ rows }) => rows <= DENSE_ADAM_ROWS,
    frameSums: ({ frames, videos, expanded, clusters }) => (frames / videos) * expanded * clusters <= FRAME_SUMS_SIZE,
  };
}
