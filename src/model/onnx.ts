import { ELEMENT_TYPES, type OnnxInitializer, type OnnxModel, type OnnxValue } from "../formats/protobuf/onnx.js";
import { branchPrefixes } from "./branch.js";
import { addClassifierToGraph } from "./classifier.js";
import type { DropRates } from "./drop-rates.js";
import { addMixtureToGraph } from "./mixture.js";
import { AGGREGATORS } from "./network.js";
import { OnnxGraph, type PaddedLayout } from "./onnx-graph.js";
import { GATING_EXPAND, GATING_NORM, GATING_REDUCE, HIDDEN, HIDDEN_NORM } from "./parameters.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "./sizes.js";

/** The newest opset that ONNX Runtime 1.30 supports as final, and its IR version. */
export const ONNX_OPSET = 26;
const IR_VERSION = 13;

/** The names of the graph's inputs and output; each modality is an input of its own name. */
const FRAME_COUNTS = "frame_counts";
const PROBABILITIES = "probabilities";

export interface OnnxOptions {
  readonly sizes: ModelSizes;
  readonly dropRates: DropRates;
  /** Maximum number of frames used per video. */
  readonly maxFrames: number;
  /** Every array of the parameter table. */
  readonly weights: readonly OnnxInitializer[];
  /** This program's version. */
  readonly version: string;
}

/**
 * Returns the frozen network as an ONNX graph. Inputs: `rgb` `[frames, 1024]` and `audio` `[frames, 128]` uint8, the concatenated frames of all videos, and
 * `frame_counts` `[videos] int64`. Output: `probabilities` `[videos, classes] float32`. The parameters are unchanged initializers under Paddle's names. The
 * graph has no loops or branches: it gathers the first `maxFrames` frames of each video into `[videos, longest]`, and gives padding a weight of 0.
 */
export function buildOnnxModel({ sizes, dropRates, maxFrames, weights, version }: OnnxOptions): OnnxModel {
  const graph = new OnnxGraph(new Set(weights.map(({ name }) => name)));
  addNetwork(graph, sizes, dropRates, maxFrames);
  return {
    irVersion: IR_VERSION,
    opset: ONNX_OPSET,
    producer: { name: "nextvlad", version },
    description: `${sizes.model}, video classification from quantized frame features (YouTube-8M), as nextvlad computes it`,
    metadata: {
      drop_rate: String(dropRates.descriptor),
      ...(dropRates.hidden === 0 ? {} : { hidden_drop_rate: String(dropRates.hidden) }),
      max_frames: String(maxFrames),
    },
    graphName: sizes.model.toLowerCase(),
    inputs: [
      ...modalitiesOf(sizes).map(describeFeatures),
      {
        name: FRAME_COUNTS,
        type: "int64",
        shape: ["videos"],
        description: "frames of each video; their sum is the features' first dimension",
      },
    ],
    outputs: [
      {
        name: PROBABILITIES,
        type: "float32",
        shape: ["videos", sizes.classes],
        description: "probability of each class, independent of the others",
      },
    ],
    initializers: [...weights, ...graph.initializers],
    nodes: graph.nodes,
  };
}

function describeFeatures({ name, features }: ModalitySizes): OnnxValue {
  const description = "quantized features of the frames of all videos, one video after another";
  return { name, type: "uint8", shape: ["frames", features], description };
}

function addNetwork(graph: OnnxGraph, sizes: ModelSizes, dropRates: DropRates, maxFrames: number): void {
  const layout = addLayout(graph, maxFrames);
  const logits = branchPrefixes(sizes.model).map((prefix) => addBranch(graph.inBranch(prefix), sizes, dropRates, layout));
  graph.add(PROBABILITIES, "Sigmoid", [logits.length === 1 ? (logits[0] as string) : addMixtureToGraph(graph, sizes, layout, logits)]);
}

/** Adds a branch of the network; returns the name of its logits. */
function addBranch(graph: OnnxGraph, sizes: ModelSizes, dropRates: DropRates, layout: PaddedLayout): string {
  const aggregator = AGGREGATORS[sizes.model];
  const modalities = modalitiesOf(sizes).map((modality) => aggregator.addToGraph(graph, modality, layout));
  const descriptors = graph.add("descriptors", "Concat", modalities, { axis: { int: 1 } });
  // Paddle's dropout (downgrade_in_infer) does not scale in training, and multiplies by 1 - rate in inference.
  const drop = (x: string, rate: number, kept: string, keepRate: string): string =>
    rate === 0 ? x : graph.add(kept, "Mul", [x, graph.float(keepRate, 1 - rate)]);
  const kept = drop(descriptors, dropRates.descriptor, "kept", "keep_rate");
  const h = graph.addBatchNorm("hidden", graph.add("hidden/product", "MatMul", [kept, HIDDEN]), HIDDEN_NORM);
  const reduced = graph.addBatchNorm("gate/reduced", graph.add("gate/reduced/product", "MatMul", [h, GATING_REDUCE]), GATING_NORM);
  const expanded = graph.add("gate/expanded", "MatMul", [graph.add("gate/active", "Relu", [reduced]), GATING_EXPAND]);
  const gated = graph.add("gated", "Mul", [h, graph.add("gate", "Sigmoid", [expanded])]);
  return addClassifierToGraph(graph, sizes, drop(gated, dropRates.hidden, "gated/kept", "hidden_keep_rate"));
}

function addLayout(graph: OnnxGraph, maxFrames: number): PaddedLayout {
  const [zero, one, lastAxis] = [graph.int(0), graph.int(1), graph.ints(-1)];
  const used = graph.add("layout/used_frames", "Min", [FRAME_COUNTS, graph.int(maxFrames)]);
  const longest = graph.add("layout/longest", "ReduceMax", [used], { keepdims: { int: 0 } });
  const positions = graph.add("layout/positions", "Range", [zero, longest, one]);
  const ends = graph.add("layout/ends", "CumSum", [FRAME_COUNTS, zero]);
  const starts = graph.add("layout/starts", "Unsqueeze", [graph.add("layout/first_frames", "Sub", [ends, FRAME_COUNTS]), lastAxis]);
  const inside = graph.add("layout/inside", "Less", [positions, graph.add("layout/counts", "Unsqueeze", [used, lastAxis])]);
  const frames = graph.add("layout/frames", "Where", [inside, graph.add("layout/unbounded", "Add", [starts, positions]), zero]);
  const weight = graph.add("layout/weight", "Cast", [inside], { to: { int: ELEMENT_TYPES.float32 } });
  return { frames, mask: graph.add("layout/mask", "Unsqueeze", [weight, lastAxis]) };
}
