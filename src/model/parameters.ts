import { countValues } from "../base/numbers.js";
import type { ModalityName, Shape } from "./sizes.js";

/** How a parameter is initialized: N(0, sqrt(2 / shape[0])) (Paddle's MSRA, normal), zeros, ones, or the eigenvalue factor. */
export type Initializer = "msra" | "zeros" | "ones" | "eigen";

/** One array of a model, with its name in files and its shape. */
export interface Parameter {
  readonly name: string;
  readonly shape: Shape;
  readonly initializer: Initializer;
  /** Whether the optimizer updates it; moving statistics and eigen_param are saved but not trained. */
  readonly trained: boolean;
  /** Whether `TRAIN.l2_penalty` is added to its gradient. */
  readonly decayed: boolean;
  /** Whether several ranks divide its rows. */
  readonly divided: boolean;
}

/** A matrix; `shape[0]` is the fan-in of its initial values. */
export const matrix = (name: string, shape: Shape, { decayed = false, divided = false } = {}): Parameter => ({
  name,
  shape,
  initializer: "msra",
  trained: true,
  decayed,
  divided,
});

export const bias = (name: string, length: number, { decayed = false } = {}): Parameter => ({
  name,
  shape: [length],
  initializer: "zeros",
  trained: true,
  decayed,
  divided: false,
});

export const EIGEN_PARAM = "eigen_param";

/** The factor of rgb features that inverts the whitening of YouTube-8M's PCA. */
export const eigenParam = (features: number): Parameter => ({
  name: EIGEN_PARAM,
  shape: [features],
  initializer: "eigen",
  trained: false,
  decayed: false,
  divided: false,
});

/** Added to a batch norm's variance. */
export const BATCH_NORM_EPSILON = 1e-5;

/** The names of one batch norm's four arrays. */
export interface BatchNormNames {
  readonly scale: string;
  readonly shift: string;
  readonly movingMean: string;
  readonly movingVariance: string;
}

/** `batch_norm_{index}.w_0`, `.b_0`, `.w_1`, `.w_2`: PaddleVideo v1.5.1's names, numbered in order of creation. */
export function batchNormNames(index: number): BatchNormNames {
  const name = `batch_norm_${index}`;
  return { scale: `${name}.w_0`, shift: `${name}.b_0`, movingMean: `${name}.w_1`, movingVariance: `${name}.w_2` };
}

/** The arrays of a batch norm of `channels` channels. */
export function batchNormParameters(names: BatchNormNames, channels: number): readonly Parameter[] {
  const of = (name: string, initializer: Initializer, trained: boolean): Parameter => ({
    name,
    shape: [channels],
    initializer,
    trained,
    decayed: false,
    divided: false,
  });
  return [
    of(names.scale, "ones", true),
    of(names.shift, "zeros", true),
    of(names.movingMean, "zeros", false),
    of(names.movingVariance, "ones", false),
  ];
}

/** Paddle's name of a modality, the prefix of its parameters' names. */
export const PADDLE_MODALITY: Readonly<Record<ModalityName, string>> = { rgb: "video", audio: "audio" };

/** The batch norm of a modality's cluster logits, and that of its descriptor. */
export const CLUSTER_NORM: Readonly<Record<ModalityName, BatchNormNames>> = { rgb: batchNormNames(0), audio: batchNormNames(2) };
export const DESCRIPTOR_NORM: Readonly<Record<ModalityName, BatchNormNames>> = { rgb: batchNormNames(1), audio: batchNormNames(3) };

export const HIDDEN = "hidden1_fc_weights";
export const HIDDEN_NORM = batchNormNames(4);
export const GATING_REDUCE = "gating_fc1_weights";
export const GATING_NORM = batchNormNames(5);
export const GATING_EXPAND = "gating_fc2_weights";

/** Returns the number of values in all arrays of a table, and in the trained ones. */
export function countParameters(table: readonly Parameter[]): { readonly all: number; readonly trained: number } {
  const count = (parameters: readonly Parameter[]): number => parameters.reduce((sum, { shape }) => sum + countValues(shape), 0);
  return { all: count(table), trained: count(table.filter(({ trained }) => trained)) };
}
