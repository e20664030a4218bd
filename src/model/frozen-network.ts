import { multiplyFewRows } from "../tensorflow/fused-kernels.js";
import { add, addBias, concat, matMul, multiply, scalar, sigmoid } from "../tensorflow/kernels.js";
import { keep, type Tensor, tidy } from "../tensorflow/runtime.js";
import { assignFrozen } from "./assignment.js";
import { frozenBatchNorm } from "./batch-norm.js";
import { release, type Weights } from "./block.js";
import { dequantise } from "./dequantise.js";
import { normaliseDescriptors } from "./descriptor-norm.js";
import { foldProjection, projectionNames } from "./frame-projection.js";
import { applyFrozenGate, type FrozenGate, freezeGate } from "./gate.js";
import { CLASSIFIER, CLASSIFIER_BIAS, HIDDEN, HIDDEN_NORM, type NetworkInput } from "./network.js";
import { batchNormNames } from "./parameters.js";
import { RaggedLayout } from "./ragged.js";
import { type ModelSizes, type StreamSizes, streamsOf } from "./sizes.js";
import { aggregate } from "./vlad.js";

/** One stream's weights, folded once. */
interface FrozenStream {
  readonly stream: StreamSizes;
  /** W Wc `[F, G K]`, and the batch norm behind it, with b Wc in its shift `[G K]`. */
  readonly clusters: Tensor;
  readonly clusterScale: Tensor;
  readonly clusterShift: Tensor;
  readonly attention: Tensor;
  readonly attentionBias: Tensor;
  /** The descriptor's batch norm, with the dropout's 1 - rate in it `[P K]`. */
  readonly scale: Tensor;
  readonly shift: Tensor;
}

/**
 * The network for evaluation and inference: every product of frozen weights done once, every batch norm a scale and a shift.
 * Reads the large matrices where they are; must be made anew when the weights have changed, and disposed of.
 */
export class FrozenNetwork {
  private readonly sizes: ModelSizes;
  private readonly weights: Weights;
  private readonly streams: readonly FrozenStream[];
  private readonly hidden: { readonly scale: Tensor; readonly shift: Tensor };
  private readonly gate: FrozenGate;

  constructor(sizes: ModelSizes, dropRate: number, weights: Weights) {
    this.sizes = sizes;
    this.weights = weights;
    this.streams = streamsOf(sizes).map((stream) => freezeStream(stream, dropRate, weights));
    this.hidden = frozenBatchNorm(HIDDEN_NORM, weights);
    this.gate = freezeGate(weights);
    for (const tensor of this.tensors()) keep(tensor);
  }

  private tensors(): Tensor[] {
    const ofStreams = this.streams.flatMap(({ stream, ...tensors }) => Object.values(tensors));
    return [...ofStreams, ...Object.values(this.hidden), ...Object.values(this.gate)];
  }

  /** The logits of a batch, `[videos, classes]`, the caller's to free. */
  logits(input: NetworkInput): Tensor {
    const { weights } = this;
    return tidy(() => {
      const layout = new RaggedLayout(input.frameCounts);
      const descriptors = concat(
        this.streams.map((frozen) => this.describe(input, layout, frozen)),
        1,
      );
      const projected = weights.use(HIDDEN, (w) => multiplyFewRows(descriptors, w));
      const h = add(multiply(projected, this.hidden.scale), this.hidden.shift);
      const gated = applyFrozenGate(h, this.gate, weights);
      const classified = weights.use(CLASSIFIER, (w) => multiplyFewRows(gated, w));
      return weights.use(CLASSIFIER_BIAS, (bias) => addBias(classified, bias));
    });
  }

  /** The probabilities of a batch, `[videos, classes]`, the caller's to free. */
  probabilities(input: NetworkInput): Tensor {
    return tidy(() => sigmoid(this.logits(input)));
  }

  private describe(input: NetworkInput, layout: RaggedLayout, frozen: FrozenStream): Tensor {
    const { stream } = frozen;
    const { groups, clusters } = this.sizes;
    const { weights } = this;
    return tidy(() => {
      const x = dequantise(stream.name === "video" ? input.rgb : input.audio, layout.frames, stream, weights);
      const attention = addBias(matMul(x, frozen.attention), frozen.attentionBias);
      const options = { stream, groups, clusters, layout };
      const { assignment, mass } = assignFrozen(matMul(x, frozen.clusters), frozen.clusterScale, frozen.clusterShift, attention, options);
      const expanded = weights.use(projectionNames(stream).expansion, (w) => matMul(x, w));
      x.dispose();
      const { y } = normaliseDescriptors(aggregate(assignment, expanded, mass, options, weights));
      return add(multiply(y, frozen.scale), frozen.shift);
    });
  }

  /** Frees what was folded; the weights stay. */
  dispose(): void {
    release(...this.tensors());
  }
}

function freezeStream(stream: StreamSizes, dropRate: number, weights: Weights): FrozenStream {
  const [clusters, clusterScale, clusterShift, attention, attentionBias, scale, shift] = tidy(() => {
    const folded = foldProjection(stream, weights);
    const clusterNorm = frozenBatchNorm(batchNormNames(stream.clusterNorm), weights);
    const vladNorm = frozenBatchNorm(batchNormNames(stream.vladNorm), weights);
    const kept = scalar(1 - dropRate);
    return [
      folded.clusters,
      clusterNorm.scale,
      add(multiply(folded.clustersBias, clusterNorm.scale), clusterNorm.shift),
      folded.attention,
      folded.attentionBias,
      multiply(vladNorm.scale, kept),
      multiply(vladNorm.shift, kept),
    ];
  }) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  return { stream, clusters, clusterScale, clusterShift, attention, attentionBias, scale, shift };
}
