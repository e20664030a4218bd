/**
 * MixNeXtVLAD: the mixture of three NeXtVLAD networks (Lin, Xiao, Fan: arXiv:1811.05014, the section on the mixture; the authors' code, linrongc/youtube-8m,
 * nextvlad.py, MixNeXtVladModel). The branches' logits z_m `[videos, classes]` are averaged with shares of a gate:
 *
 *   g   = softmax(BN(x mean) Wg + bg)     [videos, 3]   x mean: the mean of each feature over the video's frames `[videos, F]`
 *   z   = sum_m g_m z_m                   [videos, classes]
 *
 * The paper gates by the mean of the frames; the code takes the mean over the features of each frame instead, padded to max_frames values. This is the paper's
 * gate, with the code's batch norm and bias.
 */
import { divideEvenly } from "../base/numbers.js";
import type { RaggedBatch } from "../data/video.js";
import { gatherRows } from "../distributed/gather.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { addAll, addBias, concat, multiply, segmentSum, slice, softmax, subtract, sum } from "../kernels/tensorflow-ops.js";
import type { Kernels } from "../kernels/types.js";
import { keep, release, type Tensor, tidy } from "../runtime/tensor.js";
import { fromFloats } from "../runtime/transfer.js";
import { branchPrefixes } from "./branch.js";
import { quantizationOf } from "./dequantize.js";
import type { Division } from "./division.js";
import { affine, batchNorm, frozenBatchNorm, type TrainingContext } from "./layers.js";
import type { OnnxGraph, PaddedLayout } from "./onnx-graph.js";
import { type BatchNormNames, batchNormParameters, bias, matrix, PADDLE_MODALITY, type Parameter } from "./parameters.js";
import { type ModelSizes, modalitiesOf } from "./sizes.js";
import type { Weights } from "./weights.js";

const GATE_NORM: BatchNormNames = {
  scale: "mix_norm.w_0",
  shift: "mix_norm.b_0",
  movingMean: "mix_norm.w_1",
  movingVariance: "mix_norm.w_2",
};
/** Wg and bg. */
const GATE = "mix_gate_weights";
const GATE_BIAS = "mix_gate_bias";

/** The frames of the videos of a batch, or of a rank's share of it. */
type Frames = Pick<RaggedBatch, "rgb" | "audio">;

/** Maximum number of videos whose frames are dequantized at once. */
const VIDEOS_AT_ONCE = 16;

/** Returns the arrays of a model's gate; none for a model of one branch. */
export function gateParameters(sizes: ModelSizes): readonly Parameter[] {
  const branches = branchPrefixes(sizes.model).length;
  if (branches === 1) return [];
  const features = sizes.rgbFeatures + sizes.audioFeatures;
  return [...batchNormParameters(GATE_NORM, features), matrix(GATE, [features, branches]), bias(GATE_BIAS, branches)];
}

/** The branches' shares in training `[videos, branches]`, of all ranks' videos. `input` has the frames of this rank's videos; `layout` is that of the batch. */
export function computeShares(
  input: Frames,
  layout: RaggedLayout,
  sizes: ModelSizes,
  { world }: Division,
  context: TrainingContext,
): { readonly y: Tensor; readonly backward: (dy: Tensor) => void } {
  const ranges = divideEvenly(layout.videos, world.size);
  const [first, count] = ranges[world.rank] as readonly [number, number];
  const own = frameMeans(input, new RaggedLayout(layout.frameCounts.subarray(first, first + count)), sizes, context);
  const rows = ranges.map(([, size]) => size);
  const means = world.size === 1 ? own : gatherRows(own, rows, world);
  if (world.size > 1) own.dispose();
  const normalized = batchNorm(means, GATE_NORM, context);
  const logits = affine(normalized.y, GATE, GATE_BIAS, context);
  const shares = softmax(logits.y);
  logits.y.dispose();
  const kept = shares.clone();
  const backward = (dy: Tensor): void => {
    const dLogits = tidy(() => multiply(kept, subtract(dy, sum(multiply(kept, dy), [1], true))));
    release(dy, kept);
    normalized.backward(logits.backward(dLogits)).dispose();
  };
  return { y: shares, backward };
}

/** Returns the mean over frames of each feature, rgb before audio: `[videos, F] float32`. */
function frameMeans(
  input: Frames,
  layout: RaggedLayout,
  sizes: ModelSizes,
  { weights, kernels }: { readonly weights: Weights; readonly kernels: Kernels },
): Tensor {
  const blocks = divideEvenly(layout.videos, Math.ceil(layout.videos / VIDEOS_AT_ONCE)).map(([first, count]) =>
    tidy(() => {
      const frameCounts = layout.frameCounts.subarray(first, first + count);
      const block = new RaggedLayout(frameCounts);
      const firstFrame = layout.offsets[first] as number;
      const inverse = fromFloats(
        Float32Array.from(frameCounts, (frames) => 1 / frames),
        [count, 1],
      );
      const means = modalitiesOf(sizes).map((modality) => {
        const bytes = input[modality.name].subarray(firstFrame * modality.features, (firstFrame + block.frames) * modality.features);
        const x = kernels.dequantize(bytes, block.frames, quantizationOf(modality, weights));
        return multiply(segmentSum(x, block.segments()), inverse);
      });
      return concat(means, 1);
    }),
  );
  const means = tidy(() => concat(blocks, 0));
  if (blocks.length > 1) release(...blocks);
  return means;
}

/** Returns sum_m g_m z_m of the shares `[videos, branches]` and the branches' logits. Borrows them. */
export function mixLogits(shares: Tensor, logits: readonly Tensor[]): Tensor {
  return tidy(() => addAll(logits.map((z, m) => multiply(z, columnOf(shares, m)))));
}

/** The gradients of `mixLogits`, given that of its result. Borrows the tensors. */
export function mixLogitsGradient(
  dMixed: Tensor,
  shares: Tensor,
  logits: readonly Tensor[],
): { readonly shares: Tensor; readonly logits: readonly Tensor[] } {
  return tidy(() => ({
    shares: concat(
      logits.map((z) => sum(multiply(dMixed, z), [1], true)),
      1,
    ),
    logits: logits.map((_, m) => multiply(dMixed, columnOf(shares, m))),
  }));
}

function columnOf(x: Tensor, column: number): Tensor {
  return slice(x, [0, column], [x.shape[0] as number, 1]);
}

/** A gate with frozen weights. */
export interface FrozenGate {
  /** Returns the branches' shares, `[videos, branches]`. */
  shares(input: Frames, layout: RaggedLayout): Tensor;
  dispose(): void;
}

/** Prepares the gate with frozen weights; null for a model of one branch. */
export function freezeGate(sizes: ModelSizes, weights: Weights, kernels: Kernels): FrozenGate | null {
  if (branchPrefixes(sizes.model).length === 1) return null;
  const norm = frozenBatchNorm(GATE_NORM, weights);
  const owned = [norm.scale, norm.shift].map((tensor) => keep(tensor));
  return {
    shares: (input, layout) =>
      tidy(() => {
        const normalized = addBias(multiply(frameMeans(input, layout, sizes, { weights, kernels }), norm.scale), norm.shift);
        const product = weights.use(GATE, (w) => kernels.matMul(normalized, w));
        return softmax(weights.use(GATE_BIAS, (b) => addBias(product, b)));
      }),
    dispose: () => release(...owned),
  };
}

/** Adds the frozen gate and the mixture of the branches' logits to a graph; returns the name of the mixture's logits. */
export function addMixtureToGraph(graph: OnnxGraph, sizes: ModelSizes, layout: PaddedLayout, logits: readonly string[]): string {
  const frames = graph.add("mix/frames", "ReduceSum", [layout.mask, graph.ints(1)], { keepdims: { int: 0 } });
  const means = modalitiesOf(sizes).map(({ name, features }) => {
    const path = `mix/${PADDLE_MODALITY[name]}`;
    const padded = graph.addPadding(`${path}/padded`, graph.addFeatures(path, name), layout, features, { mask: true });
    const total = graph.add(`${path}/sum`, "ReduceSum", [padded, graph.ints(1)], { keepdims: { int: 0 } });
    return graph.add(`${path}/mean`, "Div", [total, frames]);
  });
  const normalized = graph.addBatchNorm("mix/normalized", graph.add("mix/means", "Concat", means, { axis: { int: 1 } }), GATE_NORM);
  const gate = graph.add("mix/gate", "Gemm", [normalized, GATE, GATE_BIAS]);
  const shares = graph.add("mix/shares", "Softmax", [gate], { axis: { int: 1 } });
  const terms = logits.map((z, m) => {
    const share = graph.add(`mix/share${m}`, "Slice", [shares, graph.ints(m), graph.ints(m + 1), graph.ints(1)]);
    return graph.add(`mix/term${m}`, "Mul", [z, share]);
  });
  return graph.add("mix/logits", "Sum", terms);
}
