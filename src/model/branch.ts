import type { TrainingContext } from "./layers.js";
import { type BatchNormNames, EIGEN_PARAM } from "./parameters.js";
import type { ModelName } from "./sizes.js";
import type { Weights } from "./weights.js";

/** The number of NeXtVLAD networks in MIX_NEXTVLAD. */
const BRANCHES = 3;

/**
 * Returns the prefixes of the names of the parameters of a model's branches. A branch is a network from frames to logits with parameters of its own, except
 * eigen_param, which all share. MIX_NEXTVLAD has three; another model is one branch without a prefix.
 */
export function branchPrefixes(model: ModelName): readonly [string, ...string[]] {
  return model === "MIX_NEXTVLAD" ? ["branch0_", ...Array.from({ length: BRANCHES - 1 }, (_, i) => `branch${i + 1}_`)] : [""];
}

/** Returns the name that a branch's parameter has in the model. */
export function nameInModel(prefix: string, name: string): string {
  return name === EIGEN_PARAM ? name : prefix + name;
}

/** Returns the weights of a branch, under their names in a model of one branch. */
export function branchWeights(weights: Weights, prefix: string): Weights {
  return {
    use: (name, compute) => weights.use(nameInModel(prefix, name), compute),
    variable: (name) => weights.variable(nameInModel(prefix, name)),
    dividedRows: (name) => weights.dividedRows(nameInModel(prefix, name)),
  };
}

/** Returns the context of a branch's layers, which name parameters as in a model of one branch. */
export function branchContext(context: TrainingContext, prefix: string): TrainingContext {
  if (prefix === "") return context;
  const normIn = ({ scale, shift, movingMean, movingVariance }: BatchNormNames): BatchNormNames => ({
    scale: nameInModel(prefix, scale),
    shift: nameInModel(prefix, shift),
    movingMean: nameInModel(prefix, movingMean),
    movingVariance: nameInModel(prefix, movingVariance),
  });
  return {
    weights: branchWeights(context.weights, prefix),
    kernels: context.kernels,
    onGradient: (name, gradient) => context.onGradient(nameInModel(prefix, name), gradient),
    backwardDense: (name, ...rest) => context.backwardDense(nameInModel(prefix, name), ...rest),
    onBatchStatistics: (names, mean, variance) => context.onBatchStatistics(normIn(names), mean, variance),
  };
}
