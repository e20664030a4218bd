import { branchPrefixes } from "../../src/model/branch.js";
import { classifierColumns } from "../../src/model/classifier.js";
import { descriptorsLength } from "../../src/model/network.js";
import { type ModelSizes, modalitiesOf } from "../../src/model/sizes.js";

/** Floating-point operations of a network's matrix products. A multiplication and an addition count as two. */
export interface Arithmetic {
  /** Per frame. */
  readonly frame: number;
  /** Per video, independent of its length. */
  readonly video: number;
  /** Per step, independent of the batch: computing the folded weights. */
  readonly step: number;
}

/**
 * Counts matrix products only, as the network runs them (docs/performance.md), with folded weights: x W and x (W Wc) instead of (x W) Wc.
 * Forward, per frame of F features: x W (D = E F wide), x (W Wc) (G K), x (W Wa) (G) and the sum over groups of P x K outer products (D K);
 * per video: hidden1, the two layers of the context gating and the classifier.
 * Backward: one more product for each product whose left operand is the features, which have no gradient; two more for every other product.
 * The folded weights W Wc and W Wa are computed in every training step, but only once in inference, before the first batch.
 */
export function countArithmetic(sizes: ModelSizes, mode: "train" | "infer"): Arithmetic {
  const { groups, clusters, hidden, bottleneck } = sizes;
  const [ofFeatures, ofOthers] = mode === "train" ? [2, 3] : [1, 1];
  const count = { frame: 0, video: 0, step: 0 };
  for (const { features, expanded } of modalitiesOf(sizes)) {
    const folded = groups * clusters + groups;
    count.frame += 2 * (ofFeatures * features * (expanded + folded) + ofOthers * expanded * clusters);
    if (mode === "train") count.step += 2 * ofOthers * features * expanded * folded;
  }
  count.video = 2 * ofOthers * (descriptorsLength(sizes) * hidden + 2 * hidden * bottleneck + hidden * classifierColumns(sizes));
  const branches = branchPrefixes(sizes.model).length;
  return { frame: branches * count.frame, video: branches * count.video, step: branches * count.step };
}

/** Returns the floating-point operations of one step on videos with the given numbers of frames. */
export function countStep({ frame, video, step }: Arithmetic, frameCounts: Int32Array): number {
  const frames = frameCounts.reduce((sum, count) => sum + count, 0);
  return frames * frame + frameCounts.length * video + step;
}
