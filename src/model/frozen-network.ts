import { NextvladError } from "../base/errors.js";
import type { Terms } from "../tensorflow/byte-kernels.js";
import { constant } from "../tensorflow/constants.js";
import { add, addBias, concat, multiply, sigmoid } from "../tensorflow/kernels.js";
import { keep, type Tensor, tidy } from "../tensorflow/runtime.js";
import { frozenBatchNorm } from "./batch-norm.js";
import { release, type Weights } from "./block.js";
import { denseProduct } from "./dense.js";
import { type FrozenStream, freezeStream } from "./frozen-stream.js";
import { applyFrozenGate, type FrozenGate, freezeGate } from "./gate.js";
import { CLASSIFIER, CLASSIFIER_BIAS, HIDDEN, HIDDEN_NORM, type NetworkInput } from "./network.js";
import { batchNormNames } from "./parameters.js";
import { RaggedLayout } from "./ragged.js";
import { type ModelSizes, type StreamSizes, streamsOf } from "./sizes.js";

const TERMS = { float32: null, tf32: null, int16: 2, int8: 1 } as const satisfies Record<string, Terms | null>;

/** Of matrix products: those with integers are those with the features. */
export type Precision = keyof typeof TERMS;

/** A batch norm with its moving statistics: x scale + shift. */
interface Affine {
  readonly scale: Tensor;
  readonly shift: Tensor;
}

/**
 * The network for evaluation and inference: every product of frozen weights done once, every batch norm a scale and a shift.
 * Reads the large matrices where they are; must be made anew when the weights have changed, and disposed of.
 */
export class FrozenNetwork {
  private readonly weights: Weights;
  private readonly streams: readonly { readonly stream: StreamSizes; readonly frozen: FrozenStream; readonly norm: Affine }[];
  private readonly hidden: Affine;
  private readonly gate: FrozenGate;

  /** Throws BAD_USAGE where the precision is one of integers and the device is a GPU. */
  constructor(sizes: ModelSizes, dropRate: number, weights: Weights, precision: Precision = "float32") {
    if (TERMS[precision] !== null && !weights.kernels.integers) {
      const remedy = "use --use-gpu False with it, or --precision float32";
      throw new NextvladError("BAD_USAGE", `${precision} is a precision for the CPU`, { key: "--precision", remedy });
    }
    this.weights = weights;
    this.streams = streamsOf(sizes).map((stream) => ({
      stream,
      frozen: freezeStream(stream, sizes, weights, TERMS[precision]),
      norm: freezeDescriptorNorm(stream, dropRate, weights),
    }));
    this.hidden = frozenBatchNorm(HIDDEN_NORM, weights);
    this.gate = freezeGate(weights);
    for (const tensor of this.tensors()) keep(tensor);
  }

  private tensors(): Tensor[] {
    return [...this.streams.map(({ norm }) => norm), this.hidden, this.gate].flatMap((tensors) => Object.values(tensors) as Tensor[]);
  }

  /** The logits of a batch, `[videos, classes]`, the caller's to free. */
  logits(input: NetworkInput): Tensor {
    const { weights } = this;
    return tidy(() => {
      const layout = new RaggedLayout(input.frameCounts);
      const descriptors = this.streams.map(({ stream, frozen, norm }) =>
        tidy(() => {
          const y = frozen.describe(stream.name === "video" ? input.rgb : input.audio, layout);
          return add(multiply(y, norm.scale), norm.shift);
        }),
      );
      const projected = denseProduct(concat(descriptors, 1), HIDDEN, weights);
      const h = add(multiply(projected, this.hidden.scale), this.hidden.shift);
      const gated = applyFrozenGate(h, this.gate, weights);
      const classified = denseProduct(gated, CLASSIFIER, weights);
      return weights.use(CLASSIFIER_BIAS, (bias) => addBias(classified, bias));
    });
  }

  /** The probabilities of a batch, `[videos, classes]`, the caller's to free. */
  probabilities(input: NetworkInput): Tensor {
    return tidy(() => sigmoid(this.logits(input)));
  }

  /** Frees what was folded; the weights stay. */
  dispose(): void {
    for (const { frozen } of this.streams) frozen.dispose();
    release(...this.tensors());
  }
}

/** The descriptor's batch norm `[P K]`, with the dropout's 1 - rate in it. */
function freezeDescriptorNorm(stream: StreamSizes, dropRate: number, weights: Weights): Affine {
  return tidy(() => {
    const norm = frozenBatchNorm(batchNormNames(stream.vladNorm), weights);
    const kept = constant(1 - dropRate);
    return { scale: multiply(norm.scale, kept), shift: multiply(norm.shift, kept) };
  });
}
