import { type Attributes, flag, fromFloats, number, reshape, runMany, text, typeAttribute } from "./kernels.js";
import { type Tensor, tidy } from "./runtime.js";

export interface BatchNormForward {
  readonly y: Tensor;
  /** `[channels]`, the batch's mean. */
  readonly mean: Tensor;
  /** `[channels]`, the batch's variance as TensorFlow returns it: the unbiased one, n/(n-1) of what it normalised by. */
  readonly unbiasedVariance: Tensor;
  readonly reserved: readonly [Tensor, Tensor, Tensor];
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

/** Normalises `[rows, channels]` by its own mean and biased variance over rows, in one fused kernel. */
export function fusedBatchNorm(x: Tensor, scale: Tensor, shift: Tensor, epsilon: number): BatchNormForward {
  const [rows, channels] = x.shape as [number, number];
  const attributes: Attributes = (b) => [...batchNormAttributes(epsilon)(b), number(b, "exponential_avg_factor", 1)];
  const [y, mean, unbiasedVariance, r1, r2, r3] = tidy(() => {
    const image = reshape(x, [rows, 1, 1, channels]);
    const empty = fromFloats(new Float32Array(0), [0]);
    const outputs = runMany("FusedBatchNormV3", attributes, [image, scale, shift, empty, empty], 6);
    return [reshape(outputs[0] as Tensor, [rows, channels]), ...outputs.slice(1)];
  }) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  return { y, mean, unbiasedVariance, reserved: [r1, r2, r3] };
}

/** The gradients of `fusedBatchNorm`: to its input `[rows, channels]`, scale and shift `[channels]`. */
export function fusedBatchNormGradient(
  dy: Tensor,
  x: Tensor,
  scale: Tensor,
  reserved: BatchNormForward["reserved"],
  epsilon: number,
): { dx: Tensor; dScale: Tensor; dShift: Tensor } {
  const [rows, channels] = x.shape as [number, number];
  const [dx, dScale, dShift] = tidy(() => {
    const image = [rows, 1, 1, channels];
    const inputs = [reshape(dy, image), reshape(x, image), scale, ...reserved];
    const outputs = runMany("FusedBatchNormGradV3", batchNormAttributes(epsilon), inputs, 5);
    return [reshape(outputs[0] as Tensor, [rows, channels]), ...outputs.slice(1, 3)];
  }) as [Tensor, Tensor, Tensor];
  return { dx, dScale, dShift };
}
