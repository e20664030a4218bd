import { NextvladError } from "../base/errors.js";
import { type NodeBackend, type OpAttribute, runtime, type Tensor, tidy } from "./runtime.js";

export type ElementType = "float32" | "int32" | "bool" | "uint8" | "resource";

export type Attributes = (binding: NodeBackend["binding"]) => readonly OpAttribute[];

/** native/gpu/device.h has the same. */
const MOST_STAGED_BYTES = 2 ** 27;

let kernelCount = 0;

/** Kernels run so far in this process: what dispatch costs is counted in these. */
export function countKernels(): number {
  return kernelCount;
}

function failure(name: string, inputs: readonly Tensor[], error: unknown): NextvladError {
  const text = error instanceof Error ? error.message : String(error);
  const shapes = inputs.map((input) => `[${input.shape.join(", ")}]`).join(", ");
  if (/OOM|RESOURCE_EXHAUSTED|out of memory/i.test(text)) {
    return new NextvladError(
      "OUT_OF_MEMORY",
      `the device has too little memory for ${name} of ${shapes}`,
      { remedy: "use a smaller --batch-size" },
      error,
    );
  }
  return new NextvladError("KERNEL_FAILED", `TensorFlow's ${name} of ${shapes} failed: ${text.split("\n", 1)[0]}`, {}, error);
}

/** Runs one TensorFlow kernel with one output. Throws OUT_OF_MEMORY or KERNEL_FAILED with the inputs' shapes. */
export function run(name: string, attributes: Attributes, inputs: readonly Tensor[]): Tensor {
  const { backend } = runtime();
  kernelCount++;
  try {
    return backend.executeSingleOutput(name, attributes(backend.binding), inputs);
  } catch (error) {
    throw failure(name, inputs, error);
  }
}

/** Runs one TensorFlow kernel with several outputs (or none). Throws as `run` does. */
export function runMany(name: string, attributes: Attributes, inputs: readonly Tensor[], outputs: number): Tensor[] {
  const { backend } = runtime();
  kernelCount++;
  try {
    return backend.executeMultipleOutputs(name, attributes(backend.binding), inputs, outputs);
  } catch (error) {
    throw failure(name, inputs, error);
  }
}

function typeNumber(binding: NodeBackend["binding"], type: ElementType): number {
  const numbers = {
    float32: binding.TF_FLOAT,
    int32: binding.TF_INT32,
    bool: binding.TF_BOOL,
    uint8: binding.TF_UINT8,
    resource: binding.TF_RESOURCE,
  };
  return numbers[type];
}

/** A type attribute, `T: float32`. */
export function typeAttribute(name: string, type: ElementType): (binding: NodeBackend["binding"]) => OpAttribute {
  return (binding) => ({ name, type: binding.TF_ATTR_TYPE, value: typeNumber(binding, type) });
}

const float =
  (name = "T"): Attributes =>
  (binding) => [typeAttribute(name, "float32")(binding)];

export const flag = (binding: NodeBackend["binding"], name: string, value: boolean): OpAttribute => ({
  name,
  type: binding.TF_ATTR_BOOL,
  value,
});
export const number = (binding: NodeBackend["binding"], name: string, value: number): OpAttribute => ({
  name,
  type: binding.TF_ATTR_FLOAT,
  value,
});
export const text = (binding: NodeBackend["binding"], name: string, value: string): OpAttribute => ({
  name,
  type: binding.TF_ATTR_STRING,
  value,
});

/**
 * Values from the host. `shape` product values of float32. On a GPU they are read before this returns, and travel without waiting for what the device
 * still has to do (native/gpu/staging.cc); more than 128 MiB go TensorFlow's own way, which waits. Throws OUT_OF_MEMORY or KERNEL_FAILED.
 */
export function fromFloats(values: Float32Array, shape: readonly number[]): Tensor {
  const { tf, device } = runtime();
  const isStaged = device.kind === "gpu" && values.length > 0 && values.byteLength <= MOST_STAGED_BYTES;
  if (!isStaged) return tf.tensor(values, [...shape], "float32");
  if (shape.reduce((product, side) => product * side, 1) !== values.length)
    throw failure(UPLOAD, [], `${values.length} values are no [${shape}]`);
  return tidy(() => run(UPLOAD, () => [], [fromInts([stage(values)], []), fromInts(shape, [shape.length])]));
}

const UPLOAD = "NextvladUpload";

function stage(values: Float32Array): number {
  try {
    return runtime().native.stage(values);
  } catch (error) {
    throw failure(UPLOAD, [], error);
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

/** Bytes to the device at one byte a value: `[rows, columns] uint8` travels as it is and becomes float32 there. */
export function fromBytes(bytes: Uint8Array, rows: number, columns: number): Tensor {
  const length = rows * columns;
  const attributes: Attributes = (b) => [typeAttribute("T", "float32")(b), typeAttribute("type", "uint8")(b)];
  return tidy(() => {
    const carrier = byteCarrier(bytes, length);
    const carried = (carrier.shape[0] as number) * 4;
    const raw = run("Bitcast", attributes, [carrier]);
    const flat = carried === length ? raw : slice(reshape(raw, [carried], "uint8"), [0], [length], "uint8");
    return cast(reshape(flat, [rows, columns], "uint8"), "uint8", "float32");
  });
}

export function cast(x: Tensor, from: ElementType, to: ElementType): Tensor {
  return run("Cast", (b) => [typeAttribute("SrcT", from)(b), typeAttribute("DstT", to)(b), flag(b, "Truncate", false)], [x]);
}

export function reshape(x: Tensor, shape: readonly number[], type: ElementType = "float32"): Tensor {
  return run("Reshape", (b) => [typeAttribute("T", type)(b), typeAttribute("Tshape", "int32")(b)], [x, fromInts(shape, [shape.length])]);
}

export function slice(x: Tensor, begin: readonly number[], size: readonly number[], type: ElementType = "float32"): Tensor {
  const attributes: Attributes = (b) => [typeAttribute("T", type)(b), typeAttribute("Index", "int32")(b)];
  return run("Slice", attributes, [x, fromInts(begin, [begin.length]), fromInts(size, [size.length])]);
}

export function concat(parts: readonly Tensor[], axis: number): Tensor {
  if (parts.length === 1) return parts[0] as Tensor;
  const attributes: Attributes = (b) => [
    typeAttribute("T", "float32")(b),
    typeAttribute("Tidx", "int32")(b),
    { name: "N", type: b.TF_ATTR_INT, value: parts.length },
  ];
  return run("ConcatV2", attributes, [...parts, fromInts([axis], [])]);
}

/** Stacks equal shapes along a new first axis. */
export function stack(parts: readonly Tensor[]): Tensor {
  const attributes: Attributes = (b) => [
    typeAttribute("T", "float32")(b),
    { name: "N", type: b.TF_ATTR_INT, value: parts.length },
    { name: "axis", type: b.TF_ATTR_INT, value: 0 },
  ];
  return run("Pack", attributes, parts);
}

export function transpose(x: Tensor, order: readonly number[]): Tensor {
  const attributes: Attributes = (b) => [typeAttribute("T", "float32")(b), typeAttribute("Tperm", "int32")(b)];
  return run("Transpose", attributes, [x, fromInts(order, [order.length])]);
}

export interface MatMulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/** `a b` of two matrices, either of them transposed on the way. */
export function matMul(a: Tensor, b: Tensor, options: MatMulOptions = {}): Tensor {
  const attributes: Attributes = (binding) => [
    typeAttribute("T", "float32")(binding),
    flag(binding, "transpose_a", options.transposeA ?? false),
    flag(binding, "transpose_b", options.transposeB ?? false),
  ];
  return run("MatMul", attributes, [a, b]);
}

/** The same of matrices by the pair: `[pairs, m, n]` and `[pairs, n, k]`. */
export function batchMatMul(a: Tensor, b: Tensor, options: MatMulOptions = {}): Tensor {
  const attributes: Attributes = (binding) => [
    typeAttribute("T", "float32")(binding),
    flag(binding, "adj_x", options.transposeA ?? false),
    flag(binding, "adj_y", options.transposeB ?? false),
  ];
  return run("BatchMatMulV2", attributes, [a, b]);
}

export const add = (a: Tensor, b: Tensor): Tensor => run("AddV2", float(), [a, b]);
export const subtract = (a: Tensor, b: Tensor): Tensor => run("Sub", float(), [a, b]);
export const multiply = (a: Tensor, b: Tensor): Tensor => run("Mul", float(), [a, b]);
export const divideNoNan = (a: Tensor, b: Tensor): Tensor => run("DivNoNan", float(), [a, b]);
export const addAll = (parts: readonly Tensor[]): Tensor =>
  run("AddN", (b) => [typeAttribute("T", "float32")(b), { name: "N", type: b.TF_ATTR_INT, value: parts.length }], parts);
/** Adds `[columns]` to every row. */
export const addBias = (x: Tensor, bias: Tensor): Tensor =>
  run("BiasAdd", (b) => [typeAttribute("T", "float32")(b), text(b, "data_format", "NHWC")], [x, bias]);
export const negate = (x: Tensor): Tensor => run("Neg", float(), [x]);
export const square = (x: Tensor): Tensor => run("Square", float(), [x]);
export const rsqrt = (x: Tensor): Tensor => run("Rsqrt", float(), [x]);
export const sigmoid = (x: Tensor): Tensor => run("Sigmoid", float(), [x]);
/** The gradient through a sigmoid whose output was `y`: dy y (1 - y). */
export const sigmoidGradient = (y: Tensor, dy: Tensor): Tensor => run("SigmoidGrad", float(), [y, dy]);
export const relu = (x: Tensor): Tensor => run("Relu", float(), [x]);
/** The gradient through a relu whose output was `y`. */
export const reluGradient = (dy: Tensor, y: Tensor): Tensor => run("ReluGrad", float(), [dy, y]);
export const softplus = (x: Tensor): Tensor => run("Softplus", float(), [x]);
/** Softmax over the last axis. */
export const softmax = (x: Tensor): Tensor => run("Softmax", float(), [x]);
export const minimum = (a: Tensor, b: Tensor): Tensor => run("Minimum", float(), [a, b]);

/** Sum over the given axes. */
export function sum(x: Tensor, axes: readonly number[], keepDimensions = false): Tensor {
  const attributes: Attributes = (b) => [
    typeAttribute("T", "float32")(b),
    typeAttribute("Tidx", "int32")(b),
    flag(b, "keep_dims", keepDimensions),
  ];
  return run("Sum", attributes, [x, fromInts(axes, [axes.length])]);
}

/** Sums rows by segment: row i of `x` goes to row `segments[i]` of the result; `segments` (int32) must rise. */
export function segmentSum(x: Tensor, segments: Tensor): Tensor {
  const attributes: Attributes = (b) => [typeAttribute("T", "float32")(b), typeAttribute("Tindices", "int32")(b)];
  return run("SegmentSum", attributes, [x, segments]);
}

/** Rows of `x` by index: `[count(indices), columns]`. */
export function gatherRows(x: Tensor, indices: Tensor): Tensor {
  const attributes: Attributes = (b) => [
    typeAttribute("Tparams", "float32")(b),
    typeAttribute("Tindices", "int32")(b),
    typeAttribute("Taxis", "int32")(b),
    { name: "batch_dims", type: b.TF_ATTR_INT, value: 0 },
  ];
  return run("GatherV2", attributes, [x, indices, fromInts([0], [])]);
}

/** 1 where `x >= threshold` (a scalar), else 0. */
export function stepAt(x: Tensor, threshold: Tensor): Tensor {
  const atLeast = run("GreaterEqual", float(), [x, threshold]);
  return cast(atLeast, "bool", "float32");
}
