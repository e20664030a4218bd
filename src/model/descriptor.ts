import { describeFused, describeFusedGradient } from "../tensorflow/fused-kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { release, type TrainingContext, type Weights } from "./block.js";
import { normaliseDescriptors } from "./descriptor-norm.js";
import { projectionNames } from "./frame-projection.js";
import { sumAssigned, type VladOptions } from "./frame-sums.js";
import { aggregate, aggregateForTraining, centreName, type VladGradients } from "./vlad.js";

/** Each video's descriptor. */
export interface Descriptor {
  /** `[videos, P K]`, each cluster's part of length 1. */
  readonly y: Tensor;
  readonly backward: (dy: Tensor) => VladGradients;
}

/** From the assignment of frames to the videos' descriptors. `expanded` is taken over; `assignment` and `mass` stay their maker's. */
export function describe(assignment: Tensor, mass: Tensor, expanded: Tensor, options: VladOptions, context: TrainingContext): Descriptor {
  return (context.weights.kernels.gpu ? describeInOnePass : describeStepByStep)(assignment, mass, expanded, options, context);
}

const describeStepByStep: typeof describe = (assignment, mass, expanded, options, context) => {
  const sums = aggregateForTraining(assignment, mass, expanded, options, context);
  const unit = normaliseDescriptors(sums.vlad);
  return { y: unit.y, backward: (dy) => sums.backward(unit.backward(dy)) };
};

const describeInOnePass: typeof describe = (assignment, mass, expanded, options, context) => {
  const { weights, takeGradient } = context;
  const frames = sumAssigned(assignment, expanded, options, weights.kernels);
  const { unit, inverse } = withParameters(options, weights, (bias, centres) => describeFused(frames.sums, mass, bias, centres));
  frames.sums.dispose();
  // The batch norm that comes next keeps its input for its own gradient, and frees it.
  const kept = unit.clone();
  const backward = (dy: Tensor): VladGradients => {
    const d = withParameters(options, weights, (bias, centres) => describeFusedGradient(dy, { unit: kept, inverse }, mass, bias, centres));
    release(dy, kept, inverse);
    const perFrame = frames.backward(d.sums);
    d.sums.dispose();
    takeGradient(centreName(options.stream), d.centres);
    return { ...perFrame, mass: d.mass, expansionBias: d.bias };
  };
  return { y: unit, backward };
};

/** The same with frozen weights, without the way back. */
export function describeFrozen(assignment: Tensor, mass: Tensor, expanded: Tensor, options: VladOptions, weights: Weights): Tensor {
  return tidy(() => {
    if (!weights.kernels.gpu) return normaliseDescriptors(aggregate(assignment, expanded, mass, options, weights)).y;
    const { sums, dispose } = sumAssigned(assignment, expanded, options, weights.kernels);
    dispose();
    return withParameters(options, weights, (bias, centres) => describeFused(sums, mass, bias, centres)).unit;
  });
}

function withParameters<T>({ stream }: VladOptions, weights: Weights, compute: (bias: Tensor, centres: Tensor) => T): T {
  return weights.use(projectionNames(stream).expansionBias, (bias) => weights.use(centreName(stream), (centres) => compute(bias, centres)));
}
