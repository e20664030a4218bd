import { type ModelSizes, modalitiesOf, vladSize } from "../../src/model/sizes.js";

/** What a network's products take, in floating-point operations: a multiplication and an addition are two. */
export interface Arithmetic {
  /** Of one frame. */
  readonly frame: number;
  /** Of one video, whatever its length. */
  readonly video: number;
  /** Of one step, whatever its batch: the fold. */
  readonly step: number;
}

/**
 * Counts matrix products only, as the network runs them (docs/performance.md), with the fold: x W and x (W Wc) instead of (x W) Wc.
 * Forward, a frame of F features takes x W (D = E F wide), x (W Wc) (G K), x (W Wa) (G) and the sum over its groups of P x K outer products (D K);
 * a video takes hidden1, the gate's two layers and the classifier.
 * Backward, a product with features on its left needs one more (they have no gradient), every other one two more.
 * The fold itself, W Wc and W Wa, is made in every step of training, and before the first batch of inference.
 */
export function countArithmetic(sizes: ModelSizes, mode: "train" | "infer"): Arithmetic {
  const { groups, clusters, hidden, gate, classes } = sizes;
  const [ofFeatures, ofOthers] = mode === "train" ? [2, 3] : [1, 1];
  const count = { frame: 0, video: 0, step: 0 };
  for (const { features, expanded } of modalitiesOf(sizes)) {
    const folded = groups * clusters + groups;
    count.frame += 2 * (ofFeatures * features * (expanded + folded) + ofOthers * expanded * clusters);
    if (mode === "train") count.step += 2 * ofOthers * features * expanded * folded;
  }
  count.video = 2 * ofOthers * (vladSize(sizes) * hidden + 2 * hidden * gate + hidden * classes);
  return count;
}

/** Floating-point operations of one step over videos of these lengths. */
export function countStep({ frame, video, step }: Arithmetic, frameCounts: Int32Array): number {
  const frames = frameCounts.reduce((sum, count) => sum + count, 0);
  return frames * frame + frameCounts.length * video + step;
}
