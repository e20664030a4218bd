import { deriveSeed } from "../base/random.js";
import type { RaggedBatch } from "../data/video.js";
import { add, matMul, minimum, multiply, rsqrt, sigmoid, square, sum } from "../kernels/tensorflow-ops.js";
import type { Kernels } from "../kernels/types.js";
import { crossEntropyGradient, crossEntropySum, labelMatrix, type TrainingContext } from "../model/layers.js";
import { forwardForTraining } from "../model/network.js";
import type { ModelSizes } from "../model/sizes.js";
import type { WeightStore } from "../model/weights.js";
import { constant } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/runtime.js";
import { toFloats } from "../runtime/transfer.js";
import type { Adam } from "./adam.js";
import { HeldStatistics } from "./held-statistics.js";

export interface StepOptions {
  readonly kernels: Kernels;
  readonly sizes: ModelSizes;
  readonly dropRate: number;
  readonly l2Penalty: number;
  /** Each parameter's largest gradient norm; null leaves gradients as they are. */
  readonly gradientClip: number | null;
  readonly seed: number;
  /**
   * Asked of the loss, where it is given, before anything of the model changes; at false the batch is left out, and no trace of it stays. To be asked,
   * each step waits for the device.
   */
  readonly acceptLoss?: ((loss: number) => boolean) | undefined;
}

/** What a step tells when asked; reading it back waits for the device. */
export interface StepReport {
  /** Mean over videos of the cross entropy summed over classes. */
  readonly loss: number;
  /** `[videos, classes]`. */
  readonly probabilities: Float32Array;
}

/** Receives the parameters' finished gradients; the tensors stay the giver's. */
export interface GradientTaker {
  readonly gradient: (parameter: string, gradient: Tensor) => void;
  /** Receives the gradient of w as the factors of `x^T dy`, returns `dy w^T`; where this is left out, both are multiplied out. */
  readonly product?: (parameter: string, x: Tensor, dy: Tensor) => Tensor;
}

/**
 * One forward and backward pass over a batch; updates moving statistics and hands each gradient to `take` as soon as it exists.
 * `step` counts from 0 and seeds the dropout. Runs in one tidy: nothing is left behind. Null where no report was asked for, and where the loss
 * was not accepted.
 */
export function differentiate(
  batch: RaggedBatch,
  step: number,
  store: WeightStore,
  options: StepOptions,
  take: GradientTaker,
  report: boolean,
): StepReport | null {
  const { sizes, seed, acceptLoss } = options;
  const held = acceptLoss === undefined ? null : new HeldStatistics();
  const pass = (): StepReport | null => {
    const dropoutSeed: [number, number] = [deriveSeed(seed, "dropout", step), deriveSeed(seed, "dropout", step, 1)];
    const labels = labelMatrix(batch.labels, sizes.classes);
    const { logits, backward } = forwardForTraining(
      batch,
      sizes,
      { rate: options.dropRate, seed: dropoutSeed },
      {
        weights: store,
        kernels: options.kernels,
        onBatchStatistics: (names, mean, variance) => (held ?? store).updateStatistics(names, mean, variance),
        onGradient: (name, gradient) => {
          take.gradient(name, gradient);
          gradient.dispose();
        },
        onDenseGradient: take.product ?? multiplyOut(store, take.gradient),
      },
    );
    const lossSum = report || acceptLoss !== undefined ? crossEntropySum(logits, labels) : null;
    const readLoss = (sum: Tensor): number => (toFloats(sum)[0] as number) / batch.ids.length;
    if (lossSum !== null && acceptLoss?.(readLoss(lossSum)) === false) return null;
    held?.applyTo(store);
    const probabilities = report ? sigmoid(logits) : null;
    const dLogits = crossEntropyGradient(logits, labels);
    logits.dispose();
    labels.dispose();
    backward(dLogits);
    if (lossSum === null || probabilities === null) return null;
    return { loss: readLoss(lossSum), probabilities: toFloats(probabilities) };
  };
  try {
    return tidy(pass);
  } finally {
    held?.dispose();
  }
}

/** Takes a product as one gradient. */
export function multiplyOut(weights: WeightStore, take: GradientTaker["gradient"]): TrainingContext["onDenseGradient"] {
  return (name, x, dy) => {
    const dx = weights.use(name, (w) => matMul(dy, w, { transposeB: true }));
    tidy(() => take(name, matMul(x, dy, { transposeA: true })));
    return dx;
  };
}

/** One step of training at `learningRate`: gradients, L2 decay of the classifier, the optional clip, Adam. */
export function trainStep(
  batch: RaggedBatch,
  step: number,
  learningRate: number,
  store: WeightStore,
  adam: Adam,
  options: StepOptions,
  report: boolean,
): StepReport | null {
  const { l2Penalty, gradientClip } = options;
  const gradient: GradientTaker["gradient"] = (name, gradient) =>
    tidy(() => {
      const decayed = addDecay(gradient, name, store, l2Penalty);
      adam.apply(name, gradientClip === null ? decayed : clipByNorm(decayed, gradientClip), step + 1, learningRate);
    });
  const apart = multiplyOut(store, gradient);
  const product: GradientTaker["product"] = (name, x, dy) => {
    // Clipping needs the whole gradient's norm.
    if (gradientClip !== null) return apart(name, x, dy);
    return adam.applyProduct(name, x, dy, step + 1, learningRate, store.parameter(name).decayed ? l2Penalty : 0);
  };
  return differentiate(batch, step, store, options, { gradient, product }, report);
}

/** Adds `penalty * w` to the gradient of a parameter that decays (the classifier's); others pass unchanged. */
export function addDecay(gradient: Tensor, name: string, store: WeightStore, penalty: number): Tensor {
  if (penalty === 0 || !store.parameter(name).decayed) return gradient;
  return store.use(name, (w) => add(gradient, multiply(w, constant(penalty))));
}

/** Scales a gradient down to `largest` where its norm exceeds that. */
function clipByNorm(gradient: Tensor, largest: number): Tensor {
  const axes = gradient.shape.map((_, axis) => axis);
  const squared = sum(square(gradient), axes);
  const factor = minimum(multiply(constant(largest), rsqrt(squared)), constant(1));
  return multiply(gradient, factor);
}
