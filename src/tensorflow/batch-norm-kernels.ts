import { constant } from "./constants.js";
import { type Attributes, flag, number, runMany, text, typeAttribute } from "./execution.js";
import type { KernelChoice } from "./kernel-choice.js";
import { multiply, reshape } from "./kernels.js";
import { type Tensor, tidy } from "./runtime.js";
import { fromFloats, scalar } from "./transfer.js";

export interface BatchNormForward {
  readonly y: Tensor;
  /** `[channels]`, the batch's mean and biased variance. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** What the gradient needs besides. */
  readonly kept: readonly Tensor[];
}

/** The gradients to its input `[rows, channels]`, scale and shift `[channels]`. */
export interface BatchNormBackward {
  readonly dx: Tensor;
  readonly dScale: Tensor;
  readonly dShift: Tensor;
}

/** Normalises `[rows, channels]` by its own mean and biased variance over rows, in one kernel: on a GPU ours, as cuDNN's is slow where there is no image. */
export function fusedBatchNorm(kernels: KernelChoice, x: Tensor, scale: Tensor, shift: Tensor, epsilon: number): BatchNormForward {
  if (!kernels.gpu) return tensorflowBatchNorm(x, scale, shift, epsilon);
  const outputs = runMany("NextvladBatchNorm", () => [], [x, scale, shift, constant(epsilon)], 4);
  const [y, mean, variance, inverse] = outputs as [Tensor, Tensor, Tensor, Tensor];
  return { y, mean, variance, kept: [inverse] };
}

/** The gradients of `fusedBatchNorm`. */
export function fusedBatchNormGradient(
  kernels: KernelChoice,
  dy: Tensor,
  x: Tensor,
  scale: Tensor,
  forward: BatchNormForward,
  epsilon: number,
): BatchNormBackward {
  if (!kernels.gpu) return tensorflowBatchNormGradient(dy, x, scale, forward, epsilon);
  const inputs = [dy, x, scale, forward.mean, ...forward.kept];
  const [dx, dScale, dShift] = runMany("NextvladBatchNormGradient", () => [], inputs, 3) as [Tensor, Tensor, Tensor];
  return { dx, dScale, dShift };
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

function tensorflowBatchNorm(x: Tensor, scale: Tensor, shift: Tensor, epsilon: number): BatchNormForward {
  const [rows, channels] = x.shape as [number, number];
  const attributes: Attributes = (b) => [...batchNormAttributes(epsilon)(b), number(b, "exponential_avg_factor", 1)];
  const [y, mean, variance, ...kept] = tidy(() => {
    const image = reshape(x, [rows, 1, 1, channels]);
    const empty = fromFloats(new Float32Array(0), [0]);
    const outputs = runMany("FusedBatchNormV3", attributes, [image, scale, shift, empty, empty], 6);
    // It returns the unbiased variance, n/(n-1) of the one it normalised by.
    const biased = multiply(outputs[2] as Tensor, scalar(rows > 1 ? (rows - 1) / rows : 1));
    return [reshape(outputs[0] as Tensor, [rows, channels]), outputs[1] as Tensor, biased, ...outputs.slice(3)];
  }) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  return { y, mean, variance, kept };
}

function tensorflowBatchNormGradient(dy: Tensor, x: Tensor, scale: Tensor, { kept }: BatchNormForward, epsilon: number): BatchNormBackward {
  const [rows, channels] = x.shape as [number, number];
  const [dx, dScale, dShift] = tidy(() => {
    const image = [rows, 1, 1, channels];
    const inputs = [reshape(dy, image), reshape(x, image), scale, ...kept];
    const outputs = runMany("FusedBatchNormGradV3", batchNormAttributes(epsilon), inputs, 5);
    return [reshape(outputs[0] as Tensor, [rows, channels]), ...outputs.slice(1, 3)];
  }) as [Tensor, Tensor, Tensor];
  return { dx, dScale, dShift };
}
