import { ELEMENT_TYPES, type OnnxAttribute, type OnnxInitializer, type OnnxNode } from "../formats/protobuf/onnx.js";
import { L2_EPSILON } from "../kernels/reference.js";
import { AUDIO_OFFSET, RGB_OFFSET, STEP } from "./dequantize.js";
import { BATCH_NORM_EPSILON, type BatchNormNames } from "./parameters.js";
import type { ModalityName } from "./sizes.js";

/** Positions of each video's frames, as names of values in the graph. */
export interface PaddedLayout {
  /** Index of the frame at each position of `[videos, longest]`; 0 past a video's end. */
  readonly frames: string;
  /** 1 for a video's frames, 0 past its end, `[videos, longest, 1]`. */
  readonly mask: string;
}

/**
 * Collects a graph's nodes and constants, and adds the nodes that aggregators and the network share. A value is named by the path of the operation that
 * computes it: `video/assignment`. Each `add*` returns the name of its output.
 */
export class OnnxGraph {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: OnnxInitializer[] = [];
  readonly #known = new Set<string>();
  readonly #parameters: ReadonlySet<string>;
  readonly #branch: { readonly graph: OnnxGraph; readonly prefix: string } | null;

  /** `parameters`: the names of the model's arrays. */
  constructor(parameters: ReadonlySet<string>, branch: { readonly graph: OnnxGraph; readonly prefix: string } | null = null) {
    this.#parameters = parameters;
    this.#branch = branch;
  }

  /**
   * Returns a graph that adds to this one the nodes of a branch, whose parameters' names start with `prefix` (see branch.ts): it puts the prefix before the
   * names of these parameters and of its values.
   */
  inBranch(prefix: string): OnnxGraph {
    return prefix === "" ? this : new OnnxGraph(this.#parameters, { graph: this, prefix });
  }

  add(output: string, operation: string, inputs: readonly string[], attributes: Readonly<Record<string, OnnxAttribute>> = {}): string {
    if (this.#branch !== null) {
      const { graph, prefix } = this.#branch;
      const ofBranch = (name: string): string => (this.#parameters.has(prefix + name) ? prefix + name : name);
      // A name that starts with that of another value has the prefix already.
      return graph.add(output.startsWith(prefix) ? output : prefix + output, operation, inputs.map(ofBranch), attributes);
    }
    this.nodes.push({ operation, inputs, output, attributes });
    return output;
  }

  /** Adds a float32 scalar and returns its name. */
  float(name: string, value: number): string {
    return this.#constant({ name, shape: [], data: Float32Array.of(value) });
  }

  /** Adds a vector `[values] int64`, for axes and shapes, and returns its name. */
  ints(...values: readonly number[]): string {
    return this.#constant({ name: `ints/${values.join(",")}`, shape: [values.length], data: BigInt64Array.from(values, BigInt) });
  }

  int(value: number): string {
    return this.#constant({ name: `int/${value}`, shape: [], data: BigInt64Array.of(BigInt(value)) });
  }

  /** A constant is written once, however many operations read it. */
  #constant(initializer: OnnxInitializer): string {
    if (this.#branch !== null) return this.#branch.graph.#constant(initializer);
    if (!this.#known.has(initializer.name)) this.initializers.push(initializer);
    this.#known.add(initializer.name);
    return initializer.name;
  }

  addBatchNorm(output: string, x: string, { scale, shift, movingMean, movingVariance }: BatchNormNames): string {
    return this.add(output, "BatchNormalization", [x, scale, shift, movingMean, movingVariance], {
      epsilon: { float: BATCH_NORM_EPSILON },
    });
  }

  /** Adds a modality's features, dequantized as in dequantize.ts: `[frames, F]`. `path` starts the names of the values. */
  addFeatures(path: string, modality: ModalityName): string {
    const bytes = this.add(`${path}/bytes`, "Cast", [modality], { to: { int: ELEMENT_TYPES.float32 } });
    const scaled = this.add(`${path}/scaled`, "Mul", [bytes, this.float("quantum", STEP)]);
    if (modality === "audio") return this.add(`${path}/features`, "Add", [scaled, this.float("audio/offset", AUDIO_OFFSET)]);
    const centered = this.add(`${path}/centered`, "Add", [scaled, this.float("video/offset", RGB_OFFSET)]);
    return this.add(`${path}/features`, "Mul", [centered, "eigen_param"]);
  }

  /** Pads `[frames, G width]` of all videos to `[videos, longest * G, width]`; with `mask`, padding is 0. */
  addPadding(output: string, x: string, layout: PaddedLayout, width: number, { mask }: { readonly mask: boolean }): string {
    const gathered = this.add(`${output}/gathered`, "Gather", [x, layout.frames]);
    const masked = mask ? this.add(`${output}/masked`, "Mul", [gathered, layout.mask]) : gathered;
    return this.add(output, "Reshape", [masked, this.ints(0, -1, width)]);
  }

  /**
   * Adds the VLAD descriptor, each cluster's part scaled to length 1, `[videos, P, K]`: the sums over a video's frames and groups of
   * a_k (x_p - c_kp), for the padded x `[videos, rows, P]`, a `[videos, rows, K]` and centers `[K, P]`.
   */
  addVlad(path: string, x: string, assignment: string, centers: string): string {
    const transposed = this.add(`${x}/transposed`, "Transpose", [x], { perm: { ints: [0, 2, 1] } });
    const sums = this.add(`${path}/sums`, "MatMul", [transposed, assignment]);
    const aSum = this.add(`${path}/a_sum`, "ReduceSum", [assignment, this.ints(1)]);
    const c = this.add(`${path}/centers`, "Transpose", [centers], { perm: { ints: [1, 0] } });
    const vlad = this.add(`${path}/vlad`, "Sub", [sums, this.add(`${path}/a_sum/centers`, "Mul", [aSum, c])]);
    return this.addL2Norm(vlad, 1);
  }

  /** Adds x scaled to length 1 along an axis. */
  addL2Norm(x: string, axis: number): string {
    const squares = this.add(`${x}/squares`, "ReduceSumSquare", [x, this.ints(axis)]);
    const bounded = this.add(`${x}/squares/bounded`, "Add", [squares, this.float("l2_epsilon", L2_EPSILON)]);
    return this.add(`${x}/unit`, "Div", [x, this.add(`${x}/length`, "Sqrt", [bounded])]);
  }
}
