import { padFrames, sumFramesFused, sumFramesFusedGradient, unpadFrames } from "../tensorflow/fused-kernels.js";
import type { KernelChoice } from "../tensorflow/kernel-choice.js";
import { batchMatMul, concat, matMul, reshape, slice, stack } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { release } from "./block.js";
import type { RaggedLayout } from "./ragged.js";
import type { StreamSizes } from "./sizes.js";

export interface VladOptions {
  readonly stream: StreamSizes;
  readonly groups: number;
  readonly clusters: number;
  readonly layout: RaggedLayout;
}

/** The sums over each video's frames and groups of assignment times expansion. */
export interface FrameSums {
  /** `[videos, P, K]`. */
  readonly sums: Tensor;
  /** From their gradient, which stays the caller's, to those of the assignment, in its layout, and of the expansion `[frames, D]`. */
  readonly backward: (dSums: Tensor) => { readonly assignment: Tensor; readonly expanded: Tensor };
  /** Frees what `backward` needs, where there is none. */
  readonly dispose: () => void;
}

/**
 * Sums `expanded` `[frames, D]`, taken over, weighted by `assignment`, which stays its maker's: on a GPU all videos at once, padded; on the CPU without
 * padding, short videos in one kernel and long ones with a matrix product each.
 */
export function sumAssigned(assignment: Tensor, expanded: Tensor, options: VladOptions, kernels: KernelChoice): FrameSums {
  if (kernels.gpu) return sumPadded(assignment, expanded, options);
  const { stream, clusters, layout } = options;
  const size = { frames: layout.frames, videos: layout.videos, expanded: stream.expanded, clusters };
  return (kernels.frameSums(size) ? sumInOneKernel : sumEachVideo)(assignment, expanded, options);
}

type Sum = (assignment: Tensor, expanded: Tensor, options: VladOptions) => FrameSums;

/** With the assignment `[frames G, K]`. */
const sumInOneKernel: Sum = (assignment, expanded, { layout: { frameCounts } }) => ({
  sums: tidy(() => sumFramesFused(expanded, assignment, frameCounts)),
  backward: (dSums) => {
    const gradients = tidy(() => sumFramesFusedGradient(dSums, expanded, assignment, frameCounts));
    expanded.dispose();
    return gradients;
  },
  dispose: () => expanded.dispose(),
});

/** With the assignment `[frames G, K]`. */
const sumEachVideo: Sum = (assignment, expanded, { stream, groups, clusters, layout }) => {
  const { groupSize } = stream;
  const rows = (): Tensor => reshape(expanded, [layout.frames * groups, groupSize]);
  const sums = tidy(() => {
    const groupRows = rows();
    const products: Tensor[] = [];
    for (let video = 0; video < layout.videos; video++) {
      const x = layout.rowsOf(groupRows, video, groups);
      const a = layout.rowsOf(assignment, video, groups);
      products.push(matMul(x, a, { transposeA: true }));
      release(x, a);
    }
    return stack(products);
  });
  // d(x W) = a dV^T, and da = x W dV.
  const backward: FrameSums["backward"] = (dSums) => {
    const gradients = tidy(() => {
      const groupRows = rows();
      const dAssignments: Tensor[] = [];
      const dExpandeds: Tensor[] = [];
      for (let video = 0; video < layout.videos; video++) {
        const [da, dx] = tidy(() => {
          const dv = reshape(slice(dSums, [video, 0, 0], [1, groupSize, clusters]), [groupSize, clusters]);
          const da = matMul(layout.rowsOf(groupRows, video, groups), dv);
          return [da, matMul(layout.rowsOf(assignment, video, groups), dv, { transposeB: true })];
        }) as [Tensor, Tensor];
        dAssignments.push(da);
        dExpandeds.push(dx);
      }
      const joined = concat(dAssignments, 0);
      if (layout.videos > 1) release(...dAssignments);
      return { assignment: joined, expanded: reshape(concat(dExpandeds, 0), [layout.frames, stream.expanded]) };
    });
    expanded.dispose();
    return gradients;
  };
  return { sums, backward, dispose: () => expanded.dispose() };
};

/** With the assignment `[videos, longest G, K]`. */
const sumPadded: Sum = (assignment, expanded, { groups, layout }) => {
  const { frameCounts } = layout;
  const x = tidy(() => padFrames(expanded, frameCounts, groups));
  expanded.dispose();
  const sums = batchMatMul(x, assignment, { transposeA: true });
  const backward: FrameSums["backward"] = (dSums) => {
    const gradients = tidy(() => ({
      assignment: batchMatMul(x, dSums),
      expanded: unpadFrames(batchMatMul(assignment, dSums, { transposeB: true }), frameCounts),
    }));
    x.dispose();
    return gradients;
  };
  return { sums, backward, dispose: () => x.dispose() };
};
