import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import type { RunState, WrittenBy } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import type { RaggedBatch } from "../data/video.js";
import { type Metrics, MetricsAccumulator } from "../evaluation/metrics.js";
import type { Kernels } from "../kernels/types.js";
import { FrozenNetwork } from "../model/frozen.js";
import { CLASSIFIER_BIAS } from "../model/parameters.js";
import type { ModelSizes } from "../model/sizes.js";
import type { WeightStore } from "../model/weights.js";
import { learningRateAt } from "../optim/schedule.js";
import { countTensors } from "../runtime/constants.js";
import { formatTrainLine } from "../telemetry/paddle-lines.js";
import type { Pace } from "../telemetry/progress.js";
import type { StepReport } from "./step.js";

/** A network's sizes and its dropout rate. */
export interface Model {
  readonly sizes: ModelSizes;
  readonly dropRate: number;
}

/** Logs a step in PaddleVideo's format, with the metrics of its batch; returns its loss and GAP. */
export function logStep(
  log: Logger,
  { loss, probabilities }: StepReport,
  batch: RaggedBatch,
  { MODEL, TRAIN }: Config,
  { epoch, step, step_in_epoch }: Pick<RunState, "epoch" | "step" | "step_in_epoch">,
  pace: Pace,
): { loss: number; gap: number } {
  const accumulator = new MetricsAccumulator(MODEL.num_classes, MODEL.topk);
  accumulator.add(probabilities, batch.labels);
  const { hit_at_one, perr, gap } = accumulator.result();
  const line = formatTrainLine({ epoch, step: step_in_epoch, loss, hitAtOne: hit_at_one, perr, gap });
  const facts = { epoch, step, loss, hit_at_one, perr, gap, learning_rate: learningRateAt(step, TRAIN), tensors: countTensors() };
  log.info({ ...facts, ...pace.facts() }, `${line}, ${pace.describe()}`);
  return { loss, gap };
}

/** Logs the metrics of a validation. */
export function logValidation(log: Logger, epoch: number, { aps, ...metrics }: Metrics): void {
  const [hit, perr, gap, map] = [metrics.hit_at_one, metrics.perr, metrics.gap, metrics.map].map((value) => value.toFixed(4));
  const words = `Hit@1 = ${hit}, PERR = ${perr}, GAP = ${gap}, MAP = ${map}`;
  log.info({ epoch, ...metrics }, `[VALID] Epoch ${epoch}, loss = ${metrics.loss.toFixed(6)}, ${words}`);
}

/**
 * Checks weights before they are saved, so that diverged weights do not replace good ones. Throws NOT_FINITE if the classifier's bias is non-finite (a NaN loss
 * reaches every weight within one step, and this bias first) or the logits are (huge weights may be finite). The thread that writes the snapshot checks
 * the other arrays.
 */
export function refuseDiverged(store: WeightStore, kernels: Kernels, { sizes, dropRate }: Model, steps: number): void {
  if (!store.variable(CLASSIFIER_BIAS).download().every(Number.isFinite)) {
    throw new NextvladError("NOT_FINITE", `after ${steps} steps the weights hold NaN or Inf`);
  }
  const network = new FrozenNetwork(sizes, dropRate, store, kernels);
  const isGood = network.hasFiniteLogits();
  network.dispose();
  if (!isGood)
    throw new NextvladError("NOT_FINITE", `after ${steps} steps the model computes NaN or Inf from its weights, which are too large`);
}

/** Warns if a run is resumed with another TensorFlow version or on another kind of device, where sums round differently. */
export function warnOfOtherMaker(log: Logger, then: WrittenBy, now: WrittenBy): void {
  if (then.tensorflow === now.tensorflow && then.device === now.device) return;
  const describe = ({ tensorflow, device }: WrittenBy): string => `TensorFlow ${tensorflow} on the ${device.toUpperCase()}`;
  log.warn(
    `the snapshot was made with ${describe(then)}, and the run goes on with ${describe(now)}: its numbers will differ in their last digits`,
  );
}
