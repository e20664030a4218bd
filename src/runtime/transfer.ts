import { countValues } from "../base/numbers.js";
import { kernelFailure, run } from "./execution.js";
import { runtime } from "./runtime.js";
import { Tensor, tidy } from "./tensor.js";

/**
 * Creates a float32 tensor from product(`shape`) values on the host. On a GPU the values are read before this returns, and copied without waiting for the
 * device's pending work (native/gpu/staging.cc); more than `maxStagedBytes` are copied by TensorFlow, which waits. Throws OUT_OF_MEMORY or KERNEL_FAILED.
 */
export function fromFloats(values: Float32Array, shape: readonly number[]): Tensor {
  const { binding, device, native } = runtime();
  const isStaged = device.kind === "gpu" && values.length > 0 && values.byteLength <= native.maxStagedBytes;
  if (!isStaged) return create(values, shape, binding.TF_FLOAT);
  if (countValues(shape) !== values.length) throw kernelFailure(UPLOAD, [], `${values.length} values for the shape [${shape}]`);
  return tidy(() => run(UPLOAD, () => [], [fromInts([stage(values)], []), fromInts(shape, [shape.length])]));
}

const UPLOAD = "NextvladUpload";

function stage(values: Float32Array): number {
  try {
    return runtime().native.stage(values);
  } catch (error) {
    throw kernelFailure(UPLOAD, [], error);
  }
}

function create(values: Float32Array | Int32Array, shape: readonly number[], type: number): Tensor {
  try {
    return Tensor.of(runtime().binding.createTensor(shape, type, values), shape);
  } catch (error) {
    throw kernelFailure("TF_NewTensor", [], error);
  }
}

/** Creates an int32 tensor from values on the host. */
export function fromInts(values: Int32Array | readonly number[], shape: readonly number[]): Tensor {
  return create(values instanceof Int32Array ? values : Int32Array.from(values), shape, runtime().binding.TF_INT32);
}

/** Creates a float32 scalar from a number on the host; see also `constant`. */
export function scalar(value: number): Tensor {
  return fromFloats(Float32Array.of(value), []);
}

/** Copies a float32 tensor to the host; waits for the device. */
export function toFloats(tensor: Tensor): Float32Array<ArrayBuffer> {
  return runtime().binding.tensorDataSync(tensor.id) as Float32Array<ArrayBuffer>;
}

/**
 * Packs the first `length` bytes into a float32 tensor, four bytes per value, padded with up to three zeros. On the CPU, does not copy if `length` and the offset
 * of `bytes` are multiples of 4.
 */
export function byteCarrier(bytes: Uint8Array, length: number): Tensor {
  const words = Math.ceil(length / 4);
  if (length % 4 === 0 && bytes.byteOffset % 4 === 0) return fromFloats(new Float32Array(bytes.buffer, bytes.byteOffset, words), [words]);
  const padded = new Uint8Array(words * 4);
  padded.set(bytes.subarray(0, length));
  return fromFloats(new Float32Array(padded.buffer), [words]);
}
