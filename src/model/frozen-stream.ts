import { FLOAT_TERMS, type FramePanels, splitWeights, sumFrames, type Terms } from "../tensorflow/byte-kernels.js";
import { add, multiply } from "../tensorflow/kernels.js";
import { keep, type Tensor, tidy } from "../tensorflow/runtime.js";
import { assignFrozen } from "./assignment.js";
import { frozenBatchNorm } from "./batch-norm.js";
import { release, type Weights } from "./block.js";
import { dequantise, quantisation } from "./dequantise.js";
import { describeFrozen } from "./descriptor.js";
import { normaliseDescriptors } from "./descriptor-norm.js";
import { floatFeatures } from "./features.js";
import { foldProjection, projectionNames } from "./frame-projection.js";
import { batchNormNames } from "./parameters.js";
import type { RaggedLayout } from "./ragged.js";
import type { ModelSizes, StreamSizes } from "./sizes.js";
import { subtractCentres } from "./vlad.js";

/** One aggregator with frozen weights, folded once. */
export interface FrozenStream {
  /** From `[frames, F] uint8` to each video's descriptor, `[videos, P K]`, each cluster's part of length 1; the caller's to free. */
  describe(bytes: Uint8Array, layout: RaggedLayout): Tensor;
  /** Frees what was folded; the weights stay. */
  dispose(): void;
}

/** Folds a stream's weights. `terms` is how exact the products with the features are; null: as a float, in the way that is fastest here. */
export function freezeStream(stream: StreamSizes, sizes: ModelSizes, weights: Weights, terms: Terms | null): FrozenStream {
  if (terms !== null) return freezeForBytes(stream, sizes, weights, terms);
  return weights.kernels.bytes ? freezeForBytes(stream, sizes, weights, FLOAT_TERMS) : freezeForFloats(stream, sizes, weights);
}

/** What a frame's features meet, with the batch norm behind the cluster logits as `scale` and `shift` `[G K]`, b Wc in the latter. */
function foldStream(stream: StreamSizes, weights: Weights) {
  return tidy(() => {
    const { clusters, clustersBias, attention, attentionBias } = foldProjection(stream, weights);
    const norm = frozenBatchNorm(batchNormNames(stream.clusterNorm), weights);
    return { clusters, scale: norm.scale, shift: add(multiply(clustersBias, norm.scale), norm.shift), attention, attentionBias };
  });
}

/** Bytes meet weights as integers, and everything up to the sums is one kernel. */
function freezeForBytes(stream: StreamSizes, sizes: ModelSizes, weights: Weights, terms: Terms): FrozenStream {
  const { groups, clusters } = sizes;
  const names = projectionNames(stream);
  const panels: FramePanels = tidy(() => {
    const bytes = quantisation(stream, weights);
    const folded = foldStream(stream, weights);
    const expansion = weights.use(names.expansion, (w) =>
      weights.use(names.expansionBias, (bias) => splitWeights(w, bias, bytes, groups, terms)),
    );
    return {
      clusters: splitWeights(multiply(folded.clusters, folded.scale), folded.shift, bytes, groups, terms),
      attention: splitWeights(folded.attention, folded.attentionBias, bytes, 1, terms),
      expansion,
    };
  });
  const tensors = [panels.clusters, panels.attention, panels.expansion].map(({ panels }) => keep(panels));
  return {
    describe: (bytes, layout) =>
      tidy(() => {
        const { sums, mass } = sumFrames(bytes, layout.frameCounts, panels);
        return normaliseDescriptors(subtractCentres(sums, mass, { stream, groups, clusters }, weights)).y;
      }),
    dispose: () => release(...tensors),
  };
}

/** Features become floats first. */
function freezeForFloats(stream: StreamSizes, sizes: ModelSizes, weights: Weights): FrozenStream {
  const { groups, clusters } = sizes;
  const folded = foldStream(stream, weights);
  const tensors = Object.values(folded).map((tensor) => keep(tensor));
  return {
    describe: (bytes, layout) =>
      tidy(() => {
        const x = floatFeatures(dequantise(bytes, layout.frames, stream, weights));
        const attention = x.times(folded.attention, folded.attentionBias);
        const options = { stream, groups, clusters, layout };
        const { assignment, mass } = assignFrozen(
          x.times(folded.clusters),
          folded.scale,
          folded.shift,
          attention,
          options,
          weights.kernels,
        );
        const expanded = weights.use(projectionNames(stream).expansion, (w) => x.times(w));
        x.dispose();
        return describeFrozen(assignment, mass, expanded, options, weights);
      }),
    dispose: () => release(...tensors),
  };
}
