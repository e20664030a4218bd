/** Wrappers of TensorFlow's ops: their names, attributes and inputs. Tensors are float32 unless a type is given, and are borrowed. */
import { type Attributes, type ElementType, flag, number, run, runMany, text, typeAttribute } from "../runtime/execution.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { byteCarrier, fromFloats, fromInts, scalar } from "../runtime/transfer.js";

const float: Attributes = (binding) => [typeAttribute("T", "float32")(binding)];

/** Copies `[rows, columns] uint8` to the device as bytes, and casts it to float32 there. */
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

/** Concatenates along an axis; returns a single part itself, not a copy. */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  if (parts.length === 1) return parts[0] as Tensor;
  const attributes: Attributes = (b) => [
    typeAttribute("T", "float32")(b),
    typeAttribute("Tidx", "int32")(b),
    { name: "N", type: b.TF_ATTR_INT, value: parts.length },
  ];
  return run("ConcatV2", attributes, [...parts, fromInts([axis], [])]);
}

/** Stacks tensors of equal shape along a new first axis. */
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

/** `a b` of two matrices, each optionally transposed. */
export function matMul(a: Tensor, b: Tensor, options: MatMulOptions = {}): Tensor {
  const attributes: Attributes = (binding) => [
    typeAttribute("T", "float32")(binding),
    flag(binding, "transpose_a", options.transposeA ?? false),
    flag(binding, "transpose_b", options.transposeB ?? false),
  ];
  return run("MatMul", attributes, [a, b]);
}

/** Batched `matMul` of `[pairs, m, n]` and `[pairs, n, k]`. */
export function batchMatMul(a: Tensor, b: Tensor, options: MatMulOptions = {}): Tensor {
  const attributes: Attributes = (binding) => [
    typeAttribute("T", "float32")(binding),
    flag(binding, "adj_x", options.transposeA ?? false),
    flag(binding, "adj_y", options.transposeB ?? false),
  ];
  return run("BatchMatMulV2", attributes, [a, b]);
}

export const add = (a: Tensor, b: Tensor): Tensor => run("AddV2", float, [a, b]);
export const subtract = (a: Tensor, b: Tensor): Tensor => run("Sub", float, [a, b]);
export const multiply = (a: Tensor, b: Tensor): Tensor => run("Mul", float, [a, b]);
export const divideNoNan = (a: Tensor, b: Tensor): Tensor => run("DivNoNan", float, [a, b]);
export const addAll = (parts: readonly Tensor[]): Tensor =>
  run("AddN", (b) => [typeAttribute("T", "float32")(b), { name: "N", type: b.TF_ATTR_INT, value: parts.length }], parts);
/** Adds `[columns]` to every row. */
export const addBias = (x: Tensor, bias: Tensor): Tensor =>
  run("BiasAdd", (b) => [typeAttribute("T", "float32")(b), text(b, "data_format", "NHWC")], [x, bias]);
export const negate = (x: Tensor): Tensor => run("Neg", float, [x]);
export const square = (x: Tensor): Tensor => run("Square", float, [x]);
export const rsqrt = (x: Tensor): Tensor => run("Rsqrt", float, [x]);
export const sigmoid = (x: Tensor): Tensor => run("Sigmoid", float, [x]);
/** Returns the gradient of a sigmoid's input, given its output `y`: dy y (1 - y). */
export const sigmoidGradient = (y: Tensor, dy: Tensor): Tensor => run("SigmoidGrad", float, [y, dy]);
export const relu = (x: Tensor): Tensor => run("Relu", float, [x]);
/** Returns the gradient of a relu's input, given its output `y`. */
export const reluGradient = (dy: Tensor, y: Tensor): Tensor => run("ReluGrad", float, [dy, y]);
export const softplus = (x: Tensor): Tensor => run("Softplus", float, [x]);
/** Softmax over the last axis. */
export const softmax = (x: Tensor): Tensor => run("Softmax", float, [x]);
/** Logarithm of the softmax over the last axis. */
export const logSoftmax = (x: Tensor): Tensor => run("LogSoftmax", float, [x]);
export const minimum = (a: Tensor, b: Tensor): Tensor => run("Minimum", float, [a, b]);

/** Sum over the given axes. */
export function sum(x: Tensor, axes: readonly number[], keepDimensions = false): Tensor {
  const attributes: Attributes = (b) => [
    typeAttribute("T", "float32")(b),
    typeAttribute("Tidx", "int32")(b),
    flag(b, "keep_dims", keepDimensions),
  ];
  return run("Sum", attributes, [x, fromInts(axes, [axes.length])]);
}

/** Sums rows by segment: row i of `x` goes to row `segments[i]` of the result; `segments` (int32) must be sorted. */
export function segmentSum(x: Tensor, segments: Tensor): Tensor {
  const attributes: Attributes = (b) => [typeAttribute("T", "float32")(b), typeAttribute("Tindices", "int32")(b)];
  return run("SegmentSum", attributes, [x, segments]);
}

/** Rows of `x` `[rows, columns]` by index (int32): `[indices, columns]`. */
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
  const atLeast = run("GreaterEqual", float, [x, threshold]);
  return cast(atLeast, "bool", "float32");
}

/** Uniform numbers in [0, 1), a pure function of the two words of `seed`. */
export function statelessUniform(shape: readonly number[], seed: readonly [number, number]): Tensor {
  return stateless("StatelessRandomUniform", shape, seed);
}

/** Standard normal numbers, a pure function of the two words of `seed`. */
export function statelessNormal(shape: readonly number[], seed: readonly [number, number]): Tensor {
  return stateless("StatelessRandomNormal", shape, seed);
}

function stateless(name: string, shape: readonly number[], seed: readonly [number, number]): Tensor {
  const attributes: Attributes = (b) => [
    typeAttribute("dtype", "float32")(b),
    typeAttribute("T", "int32")(b),
    typeAttribute("Tseed", "int32")(b),
  ];
  return run(name, attributes, [fromInts(shape, [shape.length]), fromInts(seed, [2])]);
}

const batchNormAttributes =
  (epsilon: number): Attributes =>
  (b) => [
    typeAttribute("T", "float32")(b),
    typeAttribute("U", "float32")(b),
    number(b, "epsilon", epsilon),
    text(b, "data_format", "NHWC"),
    flag(b, "is_training", true),
  ];

/** Batch norm of `[rows, channels]`: y, the mean and the biased variance `[channels]`, and the other outputs that `batchNormGradient` needs. */
export function batchNormWithStatistics(x: Tensor, scale: Tensor, shift: Tensor, epsilon: number) {
  const [rows, channels] = x.shape as [number, number];
  const image = reshape(x, [rows, 1, 1, channels]);
  const empty = fromFloats(new Float32Array(0), [0]);
  const attributes: Attributes = (b) => [...batchNormAttributes(epsilon)(b), number(b, "exponential_avg_factor", 1)];
  const [y, mean, unbiased, ...kept] = runMany("FusedBatchNormV3", attributes, [image, scale, shift, empty, empty], 6) as [
    Tensor,
    Tensor,
    Tensor,
    ...Tensor[],
  ];
  // The kernel returns the unbiased variance, n/(n-1) times the one that it normalizes by.
  const variance = multiply(unbiased, scalar(rows > 1 ? (rows - 1) / rows : 1));
  return { y: reshape(y, [rows, channels]), mean, variance, kept };
}

/** The gradients of `batchNormWithStatistics` with respect to x, scale and shift. */
export function batchNormGradient(dy: Tensor, x: Tensor, scale: Tensor, kept: readonly Tensor[], epsilon: number) {
  const [rows, channels] = x.shape as [number, number];
  const image = [rows, 1, 1, channels];
  const inputs = [reshape(dy, image), reshape(x, image), scale, ...kept];
  const [dx, dScale, dShift] = runMany("FusedBatchNormGradV3", batchNormAttributes(epsilon), inputs, 5) as [Tensor, Tensor, Tensor];
  return { x: reshape(dx, [rows, channels]), scale: dScale, shift: dShift };
}
