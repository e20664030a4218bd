import { constant } from "../tensorflow/constants.js";
import { multiply, sigmoid, softplus, subtract, sum } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { fromFloats } from "../tensorflow/transfer.js";

/** Labels as a matrix of zeros and ones, `[videos, classes]`. */
export function labelMatrix(labels: readonly Int32Array[], classes: number): Tensor {
  const matrix = new Float32Array(labels.length * classes);
  for (const [video, indices] of labels.entries()) for (const label of indices) matrix[video * classes + label] = 1;
  return fromFloats(matrix, [labels.length, classes]);
}

/** Sigmoid cross entropy summed over classes and over videos, a scalar: sum of log(1 + e^l) - l y. */
export function crossEntropySum(logits: Tensor, labels: Tensor): Tensor {
  return tidy(() => sum(subtract(softplus(logits), multiply(logits, labels)), [0, 1]));
}

/** The gradient of the loss (the sum above, averaged over videos) to the logits: (sigmoid(l) - y) / videos. */
export function crossEntropyGradient(logits: Tensor, labels: Tensor): Tensor {
  const videos = logits.shape[0] as number;
  return tidy(() => multiply(subtract(sigmoid(logits), labels), constant(1 / videos)));
}
