import { gpuKernels, padFrames, unpadFrames } from "../tensorflow/fused-kernels.js";
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
 * Sums `expanded` `[frames, D]`, taken over, weighted by `assignment`, which stays its maker's: video by video on the CPU, for which nothing is padded;
 * on a GPU, which is waited for between small products, all videos at once.
 */
export function sumAssigned(assignment: Tensor, expanded: Tensor, options: VladOptions): FrameSums {
  return (gpuKernels() ? sumAllVideos : sumEachVideo)(assignment, expanded, options);
}

/** With the assignment `[frames G, K]`. */
const sumEachVideo: typeof sumAssigned = (assignment, expanded, { stream, groups, clusters, layout }) => {
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
const sumAllVideos: typeof sumAssigned = (assignment, expanded, { groups, layout }) => {
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
