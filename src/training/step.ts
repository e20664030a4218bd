import { deriveSeed } from "../base/random.js";
import type { Config } from "../config/schema.js";
import type { RaggedBatch } from "../data/video.js";
import type { World } from "../distributed/world.js";
import { add, minimum, multiply, rsqrt } from "../kernels/tensorflow-ops.js";
import type { Kernels } from "../kernels/types.js";
import { lossGradients } from "../model/distillation.js";
import type { Division } from "../model/division.js";
import { type DropRates, dropRates } from "../model/drop-rates.js";
import { labelMatrix, ratedMask, type TrainingContext } from "../model/layers.js";
import { type DropoutOptions, forwardForTraining } from "../model/network.js";
import type { BatchNormNames } from "../model/parameters.js";
import { type ModelSizes, modelSizes } from "../model/sizes.js";
import type { WeightStore } from "../model/weights.js";
import type { Optimizer } from "../optim/optimizer.js";
import { constant } from "../runtime/constants.js";
import { keep, release, type Tensor, tidy } from "../runtime/tensor.js";
import { toFloats } from "../runtime/transfer.js";
import { GradientNorms, squaredNorm } from "./gradient-norms.js";
import type { Teacher } from "./teacher.js";
import type { WeightAverage } from "./weight-average.js";

/** Options that are the same for all steps of a run. */
export interface StepOptions {
  readonly kernels: Kernels;
  readonly sizes: ModelSizes;
  readonly dropRates: DropRates;
  /** See `labelMatrix`. */
  readonly labelSmoothing: number;
  readonly l2Penalty: number;
  /** Maximum norm of each parameter's gradient; null does not clip. */
  readonly gradientClip: number | null;
  readonly seed: number;
  readonly division: Division;
  /** Temperature of the distillation from a mixture to its branches. */
  readonly mixTemperature: number;
  /** Softens the labels; null for none. */
  readonly teacher: Teacher | null;
}

/** Returns the options of a run's steps. */
export function stepOptions({ MODEL, TRAIN }: Config, seed: number, kernels: Kernels, world: World, teacher: Teacher | null): StepOptions {
  return {
    kernels,
    sizes: modelSizes(MODEL),
    dropRates: dropRates(MODEL),
    labelSmoothing: TRAIN.label_smoothing,
    l2Penalty: TRAIN.l2_penalty,
    gradientClip: TRAIN.gradient_clip,
    seed,
    division: { world, parts: TRAIN.accumulate, syncBatchNorm: TRAIN.sync_bn },
    mixTemperature: TRAIN.mix_temperature,
    teacher,
  };
}

/** Options of one step. */
export interface Step {
  /** Index of the step from 0; it seeds the dropout. */
  readonly step: number;
  /** Whether to return a report, which synchronizes with the device. The same on all ranks. */
  readonly report: boolean;
  /**
   * Called with the loss before the model changes; if it returns false, the step ends without any effect. If it is set, each step synchronizes with the
   * device.
   */
  readonly acceptLoss?: ((loss: number) => boolean) | undefined;
}

/** What a step returns if `report` is set and the loss is accepted. */
export interface StepReport {
  /** Cross entropy of the model's logits with the smoothed targets, without that of branches and their distillation: summed over classes, averaged over videos. */
  readonly loss: number;
  /** `[videos, classes]`, row by row. */
  readonly probabilities: Float32Array;
  /** The Euclidean norm of each trained parameter's gradient, before weight decay and clipping. */
  readonly gradientNorms: ReadonlyMap<string, number>;
  /** Seconds of the step in which this rank waited for exchanges with the others; null for a process on its own. */
  readonly exchangeWaitSeconds: number | null;
}

/** Receives the parameters' gradients; borrows the tensors. */
export interface GradientSink {
  readonly gradient: (parameter: string, gradient: Tensor) => void;
  /** Receives the gradient of w as the factors of x^T dy: `backwardDense`. If unset, x^T dy is computed, and `gradient` receives it. */
  readonly product?: TrainingContext["backwardDense"];
}

/**
 * Runs one forward and backward pass over a batch: updates the moving statistics, and passes each gradient to `sink` as soon as it exists. Frees its tensors.
 * Returns null if `report` is false or the loss is not accepted.
 */
export function differentiate(
  batch: RaggedBatch,
  store: WeightStore,
  options: StepOptions,
  { step, report, acceptLoss }: Step,
  sink: GradientSink,
): StepReport | null {
  const { sizes, seed, teacher } = options;
  const { world } = options.division;
  const waitedBefore = world.waitedSeconds;
  const pending = acceptLoss === undefined ? null : new PendingStatistics();
  const norms = report ? new GradientNorms(store, options.kernels) : null;
  const backwardDense = sink.product ?? materializeGradient(store, options.kernels, sink.gradient);
  const pass = (): StepReport | null => {
    const hardLabels = labelMatrix(batch.labels, sizes.classes, { weights: batch.labelWeights, smoothing: options.labelSmoothing });
    const labels = teacher === null ? hardLabels : teacher.soften(hardLabels, batch.ids);
    const mask = ratedMask(batch.rated, sizes.classes);
    const dropouts = { rates: options.dropRates, seeds: dropoutSeeds(seed, step) };
    const { logits: all, backward } = forwardForTraining(batch, sizes, dropouts, options.division, {
      weights: store,
      kernels: options.kernels,
      onBatchStatistics: (names, mean, variance) => (pending ?? store).updateStatistics(names, mean, variance),
      onGradient: (name, gradient) => {
        norms?.add(name, gradient);
        sink.gradient(name, gradient);
        gradient.dispose();
      },
      backwardDense: (name, x, dy, onInputGradient) => {
        norms?.addProduct(name, x, dy);
        return backwardDense(name, x, dy, onInputGradient);
      },
    });
    const [logits] = all;
    const readLoss = (sum: Tensor): number => (toFloats(sum)[0] as number) / batch.ids.length;
    const lossSum = report || acceptLoss !== undefined ? options.kernels.crossEntropy(logits, labels, mask) : null;
    if (lossSum !== null && acceptLoss?.(readLoss(lossSum)) === false) return null;
    pending?.applyTo(store);
    const reported = norms !== null && lossSum !== null ? { norms, lossSum, probabilities: options.kernels.sigmoid(logits) } : null;
    const dLogits = lossGradients(all, labels, options.mixTemperature, options.kernels, mask);
    release(...all, labels, ...(mask === null ? [] : [mask]));
    backward(dLogits);
    if (reported === null) return null;
    return {
      loss: readLoss(reported.lossSum),
      probabilities: toFloats(reported.probabilities),
      gradientNorms: reported.norms.read(),
      exchangeWaitSeconds: world.size === 1 ? null : world.waitedSeconds - waitedBefore,
    };
  };
  try {
    return tidy(pass);
  } finally {
    pending?.dispose();
    norms?.dispose();
  }
}

/** Returns the seeds of a step's dropout masks. */
function dropoutSeeds(seed: number, step: number): DropoutOptions["seeds"] {
  return {
    descriptor: [deriveSeed(seed, "dropout", step), deriveSeed(seed, "dropout", step, 1)],
    hidden: [deriveSeed(seed, "dropout", step, 2), deriveSeed(seed, "dropout", step, 3)],
  };
}

/** A batch's statistics, stored until the batch's loss is accepted. Dispose of it after use. */
class PendingStatistics {
  readonly #pending: { readonly names: BatchNormNames; readonly mean: Tensor; readonly variance: Tensor }[] = [];

  /** Stores them, `[channels]` each, instead of updating the moving statistics of a store. Borrows the tensors. */
  updateStatistics(names: BatchNormNames, mean: Tensor, variance: Tensor): void {
    this.#pending.push({ names, mean: keep(mean.clone()), variance: keep(variance.clone()) });
  }

  /** Updates the store's moving statistics from the pending ones. */
  applyTo(store: WeightStore): void {
    for (const { names, mean, variance } of this.#pending) store.updateStatistics(names, mean, variance);
  }

  dispose(): void {
    for (const { mean, variance } of this.#pending.splice(0)) {
      mean.dispose();
      variance.dispose();
    }
  }
}

/** Returns a `backwardDense` that computes x^T dy and passes it to `onGradient`. */
export function materializeGradient(
  weights: WeightStore,
  { matMul }: Kernels,
  onGradient: GradientSink["gradient"],
): TrainingContext["backwardDense"] {
  return (name, x, dy, onInputGradient) => {
    const dx = weights.use(name, (w) => matMul(dy, w, { transposeB: true }));
    onInputGradient?.(dx);
    tidy(() => onGradient(name, matMul(x, dy, { transposeA: true })));
    return dx;
  };
}

/**
 * Runs one training step at `learningRate`. The backward pass updates each parameter as soon as its gradient exists: `product` the dense layers' matrices,
 * `gradient` all others, both with the classifier's L2 decay and optional clipping. Then adds the weights to their averages `ema`. Returns as `differentiate` does.
 */
export function trainStep(
  batch: RaggedBatch,
  { store, optimizer, ema }: { readonly store: WeightStore; readonly optimizer: Optimizer; readonly ema?: WeightAverage | null },
  options: StepOptions,
  at: Step & { readonly learningRate: number },
): StepReport | null {
  const { l2Penalty, gradientClip } = options;
  const update = { step: at.step + 1, learningRate: at.learningRate };
  const decayOf = (name: string): number => (store.parameter(name).decayed ? l2Penalty : 0);
  const gradient: GradientSink["gradient"] = (name, gradient) => {
    if (gradientClip === null) return optimizer.apply(name, gradient, decayOf(name), update);
    tidy(() => {
      const decayed = addDecay(gradient, name, store, decayOf(name));
      optimizer.apply(name, clipByNorm(decayed, gradientClip, squaredNorm(decayed, store.dividedRows(name))), 0, update);
    });
  };
  const applyGradient = materializeGradient(store, options.kernels, gradient);
  const product: GradientSink["product"] = (name, x, dy, onInputGradient) => {
    // Clipping needs the norm of the whole gradient.
    if (gradientClip !== null) return applyGradient(name, x, dy, onInputGradient);
    return optimizer.applyProduct(name, x, dy, decayOf(name), update, onInputGradient);
  };
  let isAccepted = true;
  const acceptLoss = at.acceptLoss && ((loss: number): boolean => (isAccepted = at.acceptLoss?.(loss) ?? true));
  const report = differentiate(batch, store, options, { ...at, acceptLoss }, { gradient, product });
  if (isAccepted) ema?.update();
  return report;
}

/** Adds `decay * w` to the gradient of a parameter w; returns it unchanged if the decay is 0. */
function addDecay(gradient: Tensor, name: string, store: WeightStore, decay: number): Tensor {
  return decay === 0 ? gradient : store.use(name, (w) => add(gradient, multiply(w, constant(decay))));
}

/** Scales a gradient, whose squared norm is `squared`, down to norm `maxNorm` if its norm exceeds it. */
function clipByNorm(gradient: Tensor, maxNorm: number, squared: Tensor): Tensor {
  const factor = minimum(multiply(constant(maxNorm), rsqrt(squared)), constant(1));
  return multiply(gradient, factor);
}
