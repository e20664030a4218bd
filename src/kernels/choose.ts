import { runtime } from "../runtime/runtime.js";
import { type CpuChoice, cpuKernels } from "./cpu.js";
import { GPU_KERNELS } from "./gpu.js";
import type { Kernels } from "./types.js";

/** The processor level that native/ computes at. */
export interface Processor {
  /** Whether one instruction multiplies bytes and sums the products (AVX512-VNNI, AVX-VNNI). */
  readonly byteInstructions: boolean;
  /** Width in bits of vector registers. */
  readonly vectorBits: number;
}

/** Returns the fastest kernels for the device. Call it once, after `loadTensorflow`, and pass the result on. */
export function chooseKernels(): Kernels {
  const { device, native } = runtime();
  return device.kind === "gpu" ? GPU_KERNELS : cpuKernels(fastestOnCpu(native));
}

/** Returns our own kernels for the device, at all sizes: for tests and benchmarks. */
export function ownKernels(): Kernels {
  return runtime().device.kind === "gpu" ? GPU_KERNELS : cpuKernels(ALWAYS_OURS);
}

const ALWAYS_OURS: CpuChoice = {
  bytesInTraining: () => true,
  matMul: () => "panels",
  minPackedRows: () => 1,
};

// Sizes at which our kernels are faster than TensorFlow's on a CPU, measured by scripts/bench/kernels.ts (docs/performance.md, "Which kernel computes"). With
// many rows, TensorFlow's matrix products are faster; ours save passes over memory and launches of many small kernels.

/** Maximum rows at which a product takes as long as one read of the matrix, whatever the matrix's size. */
const STREAMED_ROWS = 2;
/**
 * With a matrix that does not fit into the L2 cache of a core, and AVX2 or AVX-512, the same is true for more rows. In a training step, each thread also finds the
 * rows of the matrix that it updated in the step before in its own caches.
 */
const CACHED_MATRIX_BYTES = 2 ** 21;
const CACHED_MATRIX_ROWS = 128;
/** With a matrix that fits into no cache, the same is true for more rows at all levels. */
const LARGE_MATRIX_BYTES = 2 ** 24;
const LARGE_MATRIX_ROWS = 64;
/**
 * Products that take twice as long in TensorFlow: with AVX2, it reads the right matrix in place for up to this many rows, and its rows fall into the same lines
 * of the L1 cache if they are a multiple of 4 KiB apart.
 */
const ALIASED_STRIDE_BYTES = 4096;
const ALIASED_MATRIX_BYTES = 2 ** 22;
const ALIASED_ROWS = 256;
/**
 * Products that TensorFlow computes on one thread, but ours on all. With AVX2 or AVX-512 and wide matrices, ours are faster up to a higher number of operations;
 * with fewer columns than a panel has, which ours pads, up to a lower one.
 */
const MIN_PANEL_ROWS = 128;
const MIN_PANEL_OPERATIONS = 5e5;
const MAX_PANEL_OPERATIONS = 1e8;
const MAX_WIDE_OPERATIONS = 2e8;
const MIN_WIDE_COLUMNS = 256;
const MAX_NARROW_OPERATIONS = 5e6;
const MIN_NARROW_COLUMNS = 8;
const PANEL_COLUMNS = 32;
/** Minimum frames of a batch at which splitting the weights into integers costs less than it saves. */
const BYTE_FRAMES = 1000;

/** Chooses the faster kernel for each size on this processor. */
export function fastestOnCpu({ byteInstructions, vectorBits }: Processor): CpuChoice {
  const hasAvx2 = vectorBits >= 256;
  const isAvx2 = vectorBits === 256;
  return {
    bytesInTraining: (frames) => byteInstructions && frames >= BYTE_FRAMES,
    matMul: ({ rows, terms, columns, transposeA, transposeB }) => {
      const bytes = terms * columns * 4;
      const isCached = hasAvx2 && bytes >= CACHED_MATRIX_BYTES;
      const streamedRows = bytes >= LARGE_MATRIX_BYTES ? LARGE_MATRIX_ROWS : isCached ? CACHED_MATRIX_ROWS : STREAMED_ROWS;
      const isStreamed = rows <= streamedRows;
      const isAliased =
        isAvx2 && !transposeB && (columns * 4) % ALIASED_STRIDE_BYTES === 0 && bytes >= ALIASED_MATRIX_BYTES && rows <= ALIASED_ROWS;
      if ((isStreamed || isAliased) && !transposeA && !transposeB) return "rows";
      const operations = 2 * rows * terms * columns;
      const isSmall = rows >= MIN_PANEL_ROWS && operations >= MIN_PANEL_OPERATIONS && operations <= maxPanelOperations(columns, hasAvx2);
      return isAliased || isSmall ? "panels" : "tensorflow";
    },
    // In panels, frozen weights are faster from the first number of rows that is not streamed.
    minPackedRows: (terms, columns) => (terms * columns * 4 < LARGE_MATRIX_BYTES ? STREAMED_ROWS + 1 : Number.POSITIVE_INFINITY),
  };
}

function maxPanelOperations(columns: number, hasAvx2: boolean): number {
  if (columns < PANEL_COLUMNS) return columns < MIN_NARROW_COLUMNS ? 0 : MAX_NARROW_OPERATIONS;
  return hasAvx2 && columns >= MIN_WIDE_COLUMNS ? MAX_WIDE_OPERATIONS : MAX_PANEL_OPERATIONS;
}
