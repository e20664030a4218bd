import { kernelFailure, run } from "./execution.js";
import { runtime, type Tensor, tidy } from "./runtime.js";

/** native/gpu/device.h has the same. */
const MOST_STAGED_BYTES = 2 ** 27;

/**
 * Values from the host. `shape` product values of float32. On a GPU they are read before this returns, and travel without waiting for what the device
 * still has to do (native/gpu/staging.cc); more than 128 MiB go TensorFlow's own way, which waits. Throws OUT_OF_MEMORY or KERNEL_FAILED.
 */
export function fromFloats(values: Float32Array, shape: readonly number[]): Tensor {
  const { tf, device } = runtime();
  const isStaged = device.kind === "gpu" && values.length > 0 && values.byteLength <= MOST_STAGED_BYTES;
  if (!isStaged) return tf.tensor(values, [...shape], "float32");
  if (shape.reduce((product, side) => product * side, 1) !== values.length)
    throw kernelFailure(UPLOAD, [], `${values.length} values are no [${shape}]`);
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

/** Values from the host, int32. */
export function fromInts(values: Int32Array | readonly number[], shape: readonly number[]): Tensor {
  return runtime().tf.tensor(values instanceof Int32Array ? values : Int32Array.from(values), [...shape], "int32");
}

/** A float32 number from the host; see also `constant`. */
export function scalar(value: number): Tensor {
  return fromFloats(Float32Array.of(value), []);
}

/** Reads a float32 tensor back to the host; waits for the device. */
export function toFloats(tensor: Tensor): Float32Array<ArrayBuffer> {
  return tensor.dataSync() as Float32Array<ArrayBuffer>;
}

/** Bytes as float32 bit patterns, four to a value (tfjs knows no uint8), with up to three zeros at the end; on the CPU nothing is copied where `bytes` allow it. */
export function byteCarrier(bytes: Uint8Array, length: number): Tensor {
  const words = Math.ceil(length / 4);
  if (length % 4 === 0 && bytes.byteOffset % 4 === 0) return fromFloats(new Float32Array(bytes.buffer, bytes.byteOffset, words), [words]);
  const padded = new Uint8Array(words * 4);
  padded.set(bytes.subarray(0, length));
  return fromFloats(new Float32Array(padded.buffer), [words]);
}
