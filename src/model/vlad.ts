import {
  add,
  addBias,
  concat,
  matMul,
  multiply,
  negate,
  reshape,
  segmentSum,
  slice,
  stack,
  subtract,
  sum,
  transpose,
} from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { release, type TrainingContext, type Weights } from "./block.js";
import type { RaggedLayout } from "./ragged.js";
import type { StreamSizes } from "./sizes.js";

export interface VladOptions {
  readonly stream: StreamSizes;
  readonly groups: number;
  readonly clusters: number;
  readonly layout: RaggedLayout;
}

const centreName = (stream: StreamSizes): string => `${stream.name}_cluster_weights2`;
const biasName = (stream: StreamSizes): string => `${stream.name}_fc_expansion_b`;

/** `[videos, A, B]` to `[A, videos B]` and back: the form in which one matrix serves all videos at once. */
const videosInColumns = (x: Tensor): Tensor => {
  const [videos, a, b] = x.shape as [number, number, number];
  return reshape(transpose(x, [1, 0, 2]), [a, videos * b]);
};
const videosFirst = (x: Tensor, videos: number): Tensor => {
  const [a, columns] = x.shape as [number, number];
  return transpose(reshape(x, [a, videos, columns / videos]), [1, 0, 2]);
};

/** How much each cluster got from each group of each video: `[videos, G, K]`. */
function assignedMass(assignment: Tensor, { groups, clusters, layout }: VladOptions): Tensor {
  const perFrame = reshape(assignment, [layout.frames, groups * clusters]);
  return reshape(segmentSum(perFrame, layout.segments()), [layout.videos, groups, clusters]);
}

/**
 * The sum over a video's frames and groups of a[t, g, k] (x1[t, g, p] - c[k, p]), as `[videos, P, K]`.
 * `expanded` is x W `[frames, D]`: with x1 = x W + b, the bias and the centres only meet the mass, the sum of a over frames.
 */
export function aggregate(assignment: Tensor, expanded: Tensor, mass: Tensor, options: VladOptions, weights: Weights): Tensor {
  const { stream, groups, layout, clusters } = options;
  return tidy(() => {
    const groupRows = reshape(expanded, [layout.frames * groups, stream.groupSize]);
    const products: Tensor[] = [];
    for (let video = 0; video < layout.videos; video++) {
      const x = layout.rowsOf(groupRows, video, groups);
      const a = layout.rowsOf(assignment, video, groups);
      products.push(matMul(x, a, { transposeA: true }));
      release(x, a);
    }
    const ofBias = weights.use(biasName(stream), (b) =>
      videosFirst(matMul(reshape(b, [groups, stream.groupSize]), videosInColumns(mass), { transposeA: true }), layout.videos),
    );
    const ofCentres = weights.use(centreName(stream), (c) =>
      multiply(sum(mass, [1], true), reshape(transpose(c, [1, 0]), [1, stream.groupSize, clusters])),
    );
    return add(stack(products), subtract(ofBias, ofCentres));
  });
}

export interface Vlad {
  /** `[videos, P, K]`. */
  readonly vlad: Tensor;
  /** From the gradient of `vlad` to those of the assignment `[frames G, K]`, of x W `[frames, D]` and, `[D]`, of the expansion's bias. */
  readonly backward: (dVlad: Tensor) => { readonly assignment: Tensor; readonly expanded: Tensor; readonly expansionBias: Tensor };
}

/** `aggregate`, with its gradient. `expanded` is taken over; `assignment` stays its maker's. */
export function aggregateForTraining(assignment: Tensor, expanded: Tensor, options: VladOptions, context: TrainingContext): Vlad {
  const { stream, groups, clusters } = options;
  const { weights } = context;
  const mass = tidy(() => assignedMass(assignment, options));
  const vlad = aggregate(assignment, expanded, mass, options, weights);

  const backward = (dVlad: Tensor) => {
    const perFrame = backwardPerFrame(dVlad, assignment, expanded, options, weights);
    expanded.dispose();
    const [dCentres, dBias] = tidy(() => {
      const total = sum(mass, [1], true);
      const centres = transpose(negate(sum(multiply(dVlad, total), [0])), [1, 0]);
      const bias = matMul(videosInColumns(mass), videosInColumns(dVlad), { transposeB: true });
      return [reshape(centres, [clusters, stream.groupSize]), reshape(bias, [groups * stream.groupSize])];
    }) as [Tensor, Tensor];
    release(dVlad, mass);
    context.takeGradient(centreName(stream), dCentres);
    return { ...perFrame, expansionBias: dBias };
  };
  return { vlad, backward };
}

/** Video by video: d(x W) = a dV^T, and da = x W dV plus, the same for all frames of a video, what b and c contribute. */
function backwardPerFrame(dVlad: Tensor, assignment: Tensor, expanded: Tensor, options: VladOptions, weights: Weights) {
  const { stream, groups, clusters, layout } = options;
  const [dAssignment, dExpanded] = tidy(() => {
    const groupRows = reshape(expanded, [layout.frames * groups, stream.groupSize]);
    const constant = massGradient(dVlad, options, weights);
    const dAssignments: Tensor[] = [];
    const dExpandeds: Tensor[] = [];
    for (let video = 0; video < layout.videos; video++) {
      const frames = layout.frameCounts[video] as number;
      const [da, dx] = tidy(() => {
        const dv = reshape(slice(dVlad, [video, 0, 0], [1, stream.groupSize, clusters]), [stream.groupSize, clusters]);
        const ofFrames = reshape(matMul(layout.rowsOf(groupRows, video, groups), dv), [frames, groups * clusters]);
        const ofVideo = reshape(slice(constant, [video, 0], [1, groups * clusters]), [groups * clusters]);
        return [addBias(ofFrames, ofVideo), matMul(layout.rowsOf(assignment, video, groups), dv, { transposeB: true })];
      }) as [Tensor, Tensor];
      dAssignments.push(da);
      dExpandeds.push(dx);
    }
    const da = reshape(concat(dAssignments, 0), [layout.frames * groups, clusters]);
    release(...dAssignments.filter((part) => part !== da));
    return [da, reshape(concat(dExpandeds, 0), [layout.frames, stream.expanded])];
  }) as [Tensor, Tensor];
  return { assignment: dAssignment, expanded: dExpanded };
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

/** `aggregate` with frozen weights. Takes both inputs over. */
export function aggregateFrozen(assignment: Tensor, expanded: Tensor, options: VladOptions, weights: Weights): Tensor {
  const mass = tidy(() => assignedMass(assignment, options));
  const vlad = aggregate(assignment, expanded, mass, options, weights);
  release(mass, assignment, expanded);
  return vlad;
}
