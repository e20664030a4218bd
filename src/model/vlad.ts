import { add, matMul, multiply, negate, reshape, subtract, sum, transpose } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import type { TrainingContext, Weights } from "./block.js";
import { projectionNames } from "./frame-projection.js";
import { sumAssigned, type VladOptions } from "./frame-sums.js";
import type { StreamSizes } from "./sizes.js";

export const centreName = (stream: StreamSizes): string => `${stream.name}_cluster_weights2`;
const biasName = (stream: StreamSizes): string => projectionNames(stream).expansionBias;

/** `[videos, A, B]` to `[A, videos B]` and back: the form in which one matrix serves all videos at once. */
const videosInColumns = (x: Tensor): Tensor => {
  const [videos, a, b] = x.shape as [number, number, number];
  return reshape(transpose(x, [1, 0, 2]), [a, videos * b]);
};
const videosFirst = (x: Tensor, videos: number): Tensor => {
  const [a, columns] = x.shape as [number, number];
  return transpose(reshape(x, [a, videos, columns / videos]), [1, 0, 2]);
};

/**
 * The sum over a video's frames and groups of a[t, g, k] (x1[t, g, p] - c[k, p]), as `[videos, P, K]`.
 * `expanded` is x W `[frames, D]`, taken over: with x1 = x W + b, the bias and the centres only meet the mass `[videos, G K]`, the sum of a over frames.
 */
export function aggregate(assignment: Tensor, expanded: Tensor, mass: Tensor, options: VladOptions, weights: Weights): Tensor {
  return tidy(() => {
    const { sums, dispose } = sumAssigned(assignment, expanded, options, weights.kernels);
    dispose();
    return addMass(sums, mass, options, weights);
  });
}

/** What the expansion's bias and the centres add to the sums of assignment times expansion. */
function addMass(sums: Tensor, mass: Tensor, options: VladOptions, weights: Weights): Tensor {
  const { stream, groups, layout, clusters } = options;
  return tidy(() => {
    const perGroup = reshape(mass, [layout.videos, groups, clusters]);
    const ofBias = weights.use(biasName(stream), (b) =>
      videosFirst(matMul(reshape(b, [groups, stream.groupSize]), videosInColumns(perGroup), { transposeA: true }), layout.videos),
    );
    return subtractCentres(add(sums, ofBias), mass, options, weights);
  });
}

/** From the sum of assignment times expansion `[videos, P, K]` to that of assignment times the distance to each cluster's centre. */
export function subtractCentres(
  sums: Tensor,
  mass: Tensor,
  { stream, groups, clusters }: Omit<VladOptions, "layout">,
  weights: Weights,
): Tensor {
  return tidy(() => {
    const perCluster = sum(reshape(mass, [sums.shape[0] as number, groups, clusters]), [1], true);
    const ofCentres = weights.use(centreName(stream), (c) =>
      multiply(perCluster, reshape(transpose(c, [1, 0]), [1, stream.groupSize, clusters])),
    );
    return subtract(sums, ofCentres);
  });
}

export interface VladGradients {
  /** Of the assignment, in its layout, but for what comes through the mass. */
  readonly assignment: Tensor;
  /** Of the mass `[videos, G K]`. */
  readonly mass: Tensor;
  /** Of x W `[frames, D]`. */
  readonly expanded: Tensor;
  /** Of the expansion's bias `[D]`. */
  readonly expansionBias: Tensor;
}

export interface Vlad {
  /** `[videos, P, K]`. */
  readonly vlad: Tensor;
  readonly backward: (dVlad: Tensor) => VladGradients;
}

/** `aggregate`, with its gradient. `expanded` is taken over; `assignment` and `mass` stay their maker's. */
export function aggregateForTraining(
  assignment: Tensor,
  mass: Tensor,
  expanded: Tensor,
  options: VladOptions,
  context: TrainingContext,
): Vlad {
  const { stream, groups, clusters, layout } = options;
  const { weights } = context;
  const frames = sumAssigned(assignment, expanded, options, weights.kernels);
  const vlad = addMass(frames.sums, mass, options, weights);
  frames.sums.dispose();

  const backward = (dVlad: Tensor): VladGradients => {
    const perFrame = frames.backward(dVlad);
    const [dMass, dCentres, dBias] = tidy(() => {
      const perGroup = reshape(mass, [layout.videos, groups, clusters]);
      const centres = transpose(negate(sum(multiply(dVlad, sum(perGroup, [1], true)), [0])), [1, 0]);
      const bias = matMul(videosInColumns(perGroup), videosInColumns(dVlad), { transposeB: true });
      return [massGradient(dVlad, options, weights), centres, reshape(bias, [groups * stream.groupSize])];
    }) as [Tensor, Tensor, Tensor];
    dVlad.dispose();
    context.takeGradient(centreName(stream), dCentres);
    return { ...perFrame, mass: dMass, expansionBias: dBias };
  };
  return { vlad, backward };
}

/** The gradient of the mass, `[videos, G K]`: the sum over p of dV[v, p, k] (b[g, p] - c[k, p]). */
function massGradient(dVlad: Tensor, { stream, groups, clusters, layout }: VladOptions, weights: Weights): Tensor {
  return tidy(() => {
    const ofBias = weights.use(biasName(stream), (b) =>
      videosFirst(matMul(reshape(b, [groups, stream.groupSize]), videosInColumns(dVlad)), layout.videos),
    );
    const ofCentres = weights.use(centreName(stream), (c) =>
      sum(multiply(dVlad, reshape(transpose(c, [1, 0]), [1, stream.groupSize, clusters])), [1], true),
    );
    return reshape(subtract(ofBias, ofCentres), [layout.videos, groups * clusters]);
  });
}
