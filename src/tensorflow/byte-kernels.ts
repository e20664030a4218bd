import { run, runMany } from "./execution.js";
import type { Tensor } from "./runtime.js";
import { byteCarrier, fromInts } from "./transfer.js";

/** How many int8 terms stand for a weight (native/byte_panels.h): 3 are as exact as a float, 2 hold it to 2^-16 of its column's largest, 1 to 2^-8. */
export type Terms = 1 | 2 | 3;
/** Terms that stand for a float's precision. */
export const FLOAT_TERMS: Terms = 3;

/** Scale and offset of each feature, `[features]` both: a byte u stands for u scale + offset. */
export interface Quantisation {
  readonly scale: Tensor;
  readonly offset: Tensor;
}

/** Weights ready for products with bytes: int8 terms and what makes floats of their sums. */
export interface BytePanels {
  readonly panels: Tensor;
  readonly features: number;
  readonly columns: number;
  readonly terms: Terms;
}

/** Splits `w` `[features, columns]`, to which `bias` `[columns]` is added, into terms; each of `groups` groups of columns begins afresh. */
export function splitWeights(w: Tensor, bias: Tensor, { scale, offset }: Quantisation, groups: number, terms: Terms): BytePanels {
  const [features, columns] = w.shape as [number, number];
  const panels = run("NextvladSplit", () => [], [w, bias, scale, offset, fromInts([groups, terms], [2])]);
  return { panels, features, columns, terms };
}

/** `x w + bias`, `[frames, columns]`, of bytes in their carrier and weights split into `FLOAT_TERMS` terms. */
export function multiplyBytes(carrier: Tensor, frames: number, { panels, features, columns }: BytePanels): Tensor {
  return run("NextvladByteProduct", () => [], [carrier, panels, fromInts([frames, features, columns], [3])]);
}

/** `x^T d`, `[features, columns]`, of bytes in their carrier and d `[frames, columns]`. */
export function multiplyBytesTransposed(carrier: Tensor, d: Tensor, { scale, offset }: Quantisation): Tensor {
  return run("NextvladByteProductTransposed", () => [], [carrier, d, scale, offset]);
}

/** The weights of one stream of a frozen network. */
export interface FramePanels {
  /** Columns `[G K]`, whose products are the normalised cluster logits. */
  readonly clusters: BytePanels;
  /** Columns `[G]`, before the sigmoid. */
  readonly attention: BytePanels;
  /** Columns `[D]`, bias included. */
  readonly expansion: BytePanels;
}

/**
 * The sum over each video's frames and groups of assignment times expansion, `[videos, P, K]`, and the assignment's sum over frames,
 * `[videos, G K]`, straight from `[frames, features] uint8` (native/frames.cc).
 */
export function sumFrames(
  bytes: Uint8Array,
  frameCounts: Int32Array,
  { clusters, attention, expansion }: FramePanels,
): { readonly sums: Tensor; readonly mass: Tensor } {
  const { features, terms } = clusters;
  const groups = attention.columns;
  const frames = frameCounts.reduce((sum, count) => sum + count, 0);
  const sizes = [features, groups, clusters.columns / groups, expansion.columns / groups, terms];
  const inputs = [
    byteCarrier(bytes, frames * features),
    fromInts(frameCounts, [frameCounts.length]),
    clusters.panels,
    attention.panels,
    expansion.panels,
    fromInts(sizes, [sizes.length]),
  ];
  const [sums, mass] = runMany("NextvladFrames", () => [], inputs, 2) as [Tensor, Tensor];
  return { sums, mass };
}
