import { ELEMENT_TYPES, type OnnxInitializer, type OnnxModel, type OnnxValue } from "../formats/onnx-encoder.js";
import { L2_EPSILON } from "../kernels/reference.js";
import { AUDIO_OFFSET, STEP, VIDEO_OFFSET } from "./dequantize.js";
import { BATCH_NORM_EPSILON } from "./layers.js";
import { OnnxBuilder } from "./onnx-builder.js";
import {
  aggregatorNames,
  type BatchNormNames,
  batchNormNames,
  CLASSIFIER,
  CLASSIFIER_BIAS,
  GATING_EXPAND,
  GATING_NORM,
  GATING_REDUCE,
  HIDDEN,
  HIDDEN_NORM,
} from "./parameters.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "./sizes.js";

/** The newest opset that ONNX Runtime 1.30 supports as final, and its IR version. */
export const ONNX_OPSET = 26;
const IR_VERSION = 13;

/** The names of the graph's inputs and output. */
export const ONNX_NAMES = { video: "rgb", audio: "audio", frameCounts: "frame_counts", probabilities: "probabilities" } as const;

export interface OnnxOptions {
  readonly sizes: ModelSizes;
  readonly dropRate: number;
  /** Maximum number of frames used per video. */
  readonly maxFrames: number;
  /** Every array of the parameter table. */
  readonly weights: readonly OnnxInitializer[];
  /** This program's version. */
  readonly version: string;
}

/**
 * Returns the frozen network as an ONNX graph. Inputs: `rgb` `[frames, 1024]` and `audio` `[frames, 128]` uint8, the concatenated frames of all videos, and
 * `frame_counts` `[videos] int64`. Output: `probabilities` `[videos, classes] float32`. The parameters are unchanged initializers under Paddle's names. There
 * is no loop and no branch: the first `maxFrames` frames of each video are gathered into `[videos, most frames]`, and padding has weight 0.
 */
export function buildOnnxModel({ sizes, dropRate, maxFrames, weights, version }: OnnxOptions): OnnxModel {
  const builder = new OnnxBuilder();
  const network = new OnnxNetwork(builder, sizes);
  const output = network.build(dropRate, maxFrames);
  const modalities = modalitiesOf(sizes);
  return {
    irVersion: IR_VERSION,
    opset: ONNX_OPSET,
    producer: { name: "nextvlad", version },
    description: "NeXtVLAD video classification (arXiv:1811.05014) as PaddleVideo v1.5.1 computes it, from quantised frame features",
    metadata: { drop_rate: String(dropRate), max_frames: String(maxFrames) },
    graphName: "nextvlad",
    inputs: [...modalities.map(describeFeatures), FRAME_COUNTS],
    outputs: [
      {
        name: output,
        type: "float32",
        shape: ["videos", sizes.classes],
        description: "probability of each class, independent of the others",
      },
    ],
    initializers: [...weights, ...builder.initializers],
    nodes: builder.nodes,
  };
}

const FRAME_COUNTS: OnnxValue = {
  name: ONNX_NAMES.frameCounts,
  type: "int64",
  shape: ["videos"],
  description: "frames of each video; their sum is the features' first dimension",
};

function describeFeatures({ name, features }: ModalitySizes): OnnxValue {
  const description = "quantised features of the frames of all videos, one video after another";
  return { name: ONNX_NAMES[name], type: "uint8", shape: ["frames", features], description };
}

/** Positions of each video's frames, as names of values in the graph. */
interface PaddedLayout {
  /** Index of the frame at each position of `[videos, most frames]`; 0 past a video's end. */
  readonly frames: string;
  /** 1 for a video's frames, 0 past its end, `[videos, most frames, 1]`. */
  readonly mask: string;
}

class OnnxNetwork {
  private readonly builder: OnnxBuilder;
  private readonly sizes: ModelSizes;

  constructor(builder: OnnxBuilder, sizes: ModelSizes) {
    this.builder = builder;
    this.sizes = sizes;
  }

  build(dropRate: number, maxFrames: number): string {
    const { builder } = this;
    const layout = this.layOut(maxFrames);
    const modalities = modalitiesOf(this.sizes).map((modality) => this.describe(modality, layout));
    const descriptors = builder.add("descriptors", "Concat", modalities, { axis: { int: 1 } });
    // Paddle's dropout (downgrade_in_infer) does not scale in training, and multiplies by 1 - rate in inference.
    const kept = dropRate === 0 ? descriptors : builder.add("kept", "Mul", [descriptors, builder.float("keep_rate", 1 - dropRate)]);
    const h = this.batchNorm("hidden", builder.add("hidden/product", "MatMul", [kept, HIDDEN]), HIDDEN_NORM);
    const reduced = this.batchNorm("gate/reduced", builder.add("gate/reduced/product", "MatMul", [h, GATING_REDUCE]), GATING_NORM);
    const expanded = builder.add("gate/expanded", "MatMul", [builder.add("gate/active", "Relu", [reduced]), GATING_EXPAND]);
    const gated = builder.add("gated", "Mul", [h, builder.add("gate", "Sigmoid", [expanded])]);
    const logits = builder.add("logits", "Gemm", [gated, CLASSIFIER, CLASSIFIER_BIAS]);
    return builder.add(ONNX_NAMES.probabilities, "Sigmoid", [logits]);
  }

  private batchNorm(output: string, x: string, { scale, shift, movingMean, movingVariance }: BatchNormNames): string {
    const inputs = [x, scale, shift, movingMean, movingVariance];
    return this.builder.add(output, "BatchNormalization", inputs, { epsilon: { float: BATCH_NORM_EPSILON } });
  }

  private layOut(maxFrames: number): PaddedLayout {
    const { builder } = this;
    const counts = ONNX_NAMES.frameCounts;
    const [zero, one, lastAxis] = [builder.int(0), builder.int(1), builder.ints(-1)];
    const used = builder.add("layout/used_frames", "Min", [counts, builder.int(maxFrames)]);
    const most = builder.add("layout/most_frames", "ReduceMax", [used], { keepdims: { int: 0 } });
    const places = builder.add("layout/places", "Range", [zero, most, one]);
    const ends = builder.add("layout/ends", "CumSum", [counts, zero]);
    const starts = builder.add("layout/starts", "Unsqueeze", [builder.add("layout/first_frames", "Sub", [ends, counts]), lastAxis]);
    const inside = builder.add("layout/inside", "Less", [places, builder.add("layout/counts", "Unsqueeze", [used, lastAxis])]);
    const frames = builder.add("layout/frames", "Where", [inside, builder.add("layout/unbounded", "Add", [starts, places]), zero]);
    const weight = builder.add("layout/weight", "Cast", [inside], { to: { int: ELEMENT_TYPES.float32 } });
    return { frames, mask: builder.add("layout/mask", "Unsqueeze", [weight, lastAxis]) };
  }

  /** Adds a modality's descriptors after their batch norm: `[videos, P K]`. */
  private describe(modality: ModalitySizes, layout: PaddedLayout): string {
    const { builder } = this;
    const at = (name: string): string => `${modality.name}/${name}`;
    const names = aggregatorNames(modality);
    const expanded = builder.add(at("expanded"), "Gemm", [this.dequantize(modality), names.expansion, names.expansionBias]);
    const assignment = this.padded(at("assignment"), this.assign(modality, expanded), layout, layout.mask, this.sizes.clusters);
    const groups = this.padded(at("groups"), expanded, layout, null, modality.groupSize);
    const transposed = builder.add(at("groups/transposed"), "Transpose", [groups], { perm: { ints: [0, 2, 1] } });
    const products = builder.add(at("products"), "MatMul", [transposed, assignment]);
    const mass = builder.add(at("mass"), "ReduceSum", [assignment, builder.ints(1)]);
    const centres = builder.add(at("centres"), "Transpose", [names.centers], { perm: { ints: [1, 0] } });
    const vlad = builder.add(at("vlad"), "Sub", [products, builder.add(at("mass/centres"), "Mul", [mass, centres])]);
    const flat = builder.add(at("flat"), "Reshape", [
      this.normalise(at("vlad"), vlad),
      builder.ints(-1, modality.groupSize * this.sizes.clusters),
    ]);
    return this.batchNorm(at("descriptor"), flat, batchNormNames(modality.vladNorm));
  }

  /** Dequantizes as dequantize.ts does. */
  private dequantize(modality: ModalitySizes): string {
    const { builder } = this;
    const at = (name: string): string => `${modality.name}/${name}`;
    const bytes = builder.add(at("bytes"), "Cast", [ONNX_NAMES[modality.name]], { to: { int: ELEMENT_TYPES.float32 } });
    const scaled = builder.add(at("scaled"), "Mul", [bytes, builder.float("quantum", STEP)]);
    if (modality.name === "audio") return builder.add(at("features"), "Add", [scaled, builder.float("audio/offset", AUDIO_OFFSET)]);
    const centred = builder.add(at("centred"), "Add", [scaled, builder.float("video/offset", VIDEO_OFFSET)]);
    return builder.add(at("features"), "Mul", [centred, "eigen_param"]);
  }

  /** Adds the assignment weights of each group of each frame to each cluster: `[frames, G K]`. */
  private assign(modality: ModalitySizes, expanded: string): string {
    const { builder } = this;
    const { groups, clusters } = this.sizes;
    const at = (name: string): string => `${modality.name}/assignment/${name}`;
    const names = aggregatorNames(modality);
    const attention = builder.add(at("attention/logits"), "Gemm", [expanded, names.attention, names.attentionBias]);
    const share = builder.add(at("attention"), "Unsqueeze", [builder.add(at("attention/flat"), "Sigmoid", [attention]), builder.ints(-1)]);
    const product = builder.add(at("product"), "MatMul", [expanded, names.clusters]);
    const logits = this.batchNorm(at("logits"), product, batchNormNames(modality.clusterNorm));
    const grouped = builder.add(at("grouped"), "Reshape", [logits, builder.ints(-1, groups, clusters)]);
    const softmax = builder.add(at("softmax"), "Softmax", [grouped], { axis: { int: -1 } });
    const weighted = builder.add(at("weighted"), "Mul", [softmax, share]);
    return builder.add(at("flat"), "Reshape", [weighted, builder.ints(-1, groups * clusters)]);
  }

  /** Pads `[frames, G width]` of all videos to `[videos, most frames * G, width]`. */
  private padded(output: string, x: string, layout: PaddedLayout, mask: string | null, width: number): string {
    const { builder } = this;
    const gathered = builder.add(`${output}/gathered`, "Gather", [x, layout.frames]);
    const masked = mask === null ? gathered : builder.add(`${output}/masked`, "Mul", [gathered, mask]);
    return builder.add(output, "Reshape", [masked, builder.ints(0, -1, width)]);
  }

  /** L2-normalizes each cluster's part of `[videos, P, K]`. */
  private normalise(name: string, vlad: string): string {
    const { builder } = this;
    const squares = builder.add(`${name}/squares`, "ReduceSumSquare", [vlad, builder.ints(1)]);
    const bounded = builder.add(`${name}/squares/bounded`, "Add", [squares, builder.float("l2_epsilon", L2_EPSILON)]);
    return builder.add(`${name}/unit`, "Div", [vlad, builder.add(`${name}/length`, "Sqrt", [bounded])]);
  }
}
