import { runtime } from "./runtime.js";

/** The sizes of a dense layer: `[rows, inputs]` times `[inputs, outputs]`. */
export interface DenseSize {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** Which of our kernels (native/) compute; for the rest, TensorFlow's do. All of them compute the same, up to rounding. */
export interface KernelChoice {
  /** Batch norm and descriptors in one kernel each, and frames padded to a rectangle: for a GPU. */
  readonly gpu: boolean;
  /** Dequantisation, and soft assignment with its gradient, in one pass. */
  readonly fused: boolean;
  /** Whether there are products of bytes and integers, for the precisions int16 and int8: on the CPU. */
  readonly integers: boolean;
  /** Whether those serve at float32's precision too, in inference, where weights are split into integers once. */
  readonly bytes: boolean;
  /** Whether they do in training, where weights are split in each step, with a batch of so many frames. */
  readonly byteFeatures: (frames: number) => boolean;
  /** The product of a few rows and a large matrix (native/dense.cc). */
  readonly denseProduct: (size: DenseSize) => boolean;
  /** A dense layer's gradients and its Adam step in one pass (native/dense_adam.cc). */
  readonly denseAdam: (size: DenseSize) => boolean;
  /** The sums over frames of all videos in one kernel (native/frame_sums.cc). */
  readonly frameSums: (size: FrameSumsSize) => boolean;
}

/** The sizes of the sums over a batch's frames. */
export interface FrameSumsSize {
  readonly frames: number;
  readonly videos: number;
  /** D, a frame's expanded features. */
  readonly expanded: number;
  /** K. */
  readonly clusters: number;
}

const always = (): boolean => true;
const never = (): boolean => false;

/** TensorFlow's kernels only: what ours are checked against. */
export const TENSORFLOW_KERNELS: KernelChoice = {
  gpu: false,
  fused: false,
  integers: false,
  bytes: false,
  byteFeatures: never,
  denseProduct: never,
  denseAdam: never,
  frameSums: never,
};

/** What the choice depends on: the device, and what native/ was compiled for. */
export interface Machine {
  readonly device: "cpu" | "gpu";
  /** 512 with AVX-512, 256 with AVX2. */
  readonly vectorBits: number;
  /** Whether one instruction multiplies 64 bytes (AVX512-VNNI). */
  readonly byteInstructions: boolean;
}

/** Every kernel of ours that the machine has, whatever the shape. */
export function ourKernels({ device, byteInstructions }: Machine): KernelChoice {
  if (device === "gpu") return { ...TENSORFLOW_KERNELS, gpu: true, fused: true };
  return {
    gpu: false,
    fused: true,
    integers: true,
    bytes: byteInstructions,
    byteFeatures: () => byteInstructions,
    denseProduct: always,
    denseAdam: always,
    frameSums: always,
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

/** The faster kernel for each shape on this machine. */
export function fastestKernels(machine: Machine = thisMachine()): KernelChoice {
  const ours = ourKernels(machine);
  if (machine.device === "gpu") return ours;
  return {
    ...ours,
    byteFeatures: (frames) => machine.byteInstructions && frames >= BYTE_FRAMES,
    denseProduct: ({ rows, inputs, outputs }) =>
      rows <= STREAMED_ROWS || (machine.vectorBits === 512 && rows <= LARGE_MATRIX_ROWS && inputs * outputs * 4 >= LARGE_MATRIX_BYTES),
    denseAdam: ({ rows }) => rows <= DENSE_ADAM_ROWS,
    frameSums: ({ frames, videos, expanded, clusters }) => (frames / videos) * expanded * clusters <= FRAME_SUMS_SIZE,
  };
}

/** The machine of the loaded library. */
export function thisMachine(): Machine {
  const { device, native } = runtime();
  return { device: device.kind, vectorBits: native.vectorBits, byteInstructions: native.byteInstructions };
}
