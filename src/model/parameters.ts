import { type ModalitySizes, type ModelSizes, modalitiesOf, type Shape, vladSize } from "./sizes.js";

/** How a parameter is initialized: N(0, sqrt(2 / shape[0])) (Paddle's MSRA, normal), zeros, ones, or the eigenvalue factor. */
export type Initialiser = "msra" | "zeros" | "ones" | "eigen";

/** One array of the model, with Paddle's name and shape. */
export interface Parameter {
  readonly name: string;
  readonly shape: Shape;
  readonly initialiser: Initialiser;
  /** Whether Adam updates it; moving statistics and eigen_param are saved but not trained. */
  readonly trained: boolean;
  /** Whether `TRAIN.l2_penalty` is added to its gradient. */
  readonly decayed: boolean;
}

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

export const HIDDEN = "hidden1_fc_weights";
export const HIDDEN_NORM = batchNormNames(4);
export const GATING_REDUCE = "gating_fc1_weights";
export const GATING_NORM = batchNormNames(5);
export const GATING_EXPAND = "gating_fc2_weights";
export const CLASSIFIER = "logits_clf_weights";
export const CLASSIFIER_BIAS = "logits_clf_bias";

/** Returns the names of one modality's parameters except batch norms, with the paper's symbols. */
export function aggregatorNames({ name }: Pick<ModalitySizes, "name">) {
  return {
    /** W and b. */
    expansion: `${name}_fc_expansion_w`,
    expansionBias: `${name}_fc_expansion_b`,
    /** Wa and ba. */
    attention: `${name}_fc_group_attention_w`,
    attentionBias: `${name}_fc_group_attention_b`,
    /** Wc. */
    clusters: `${name}_cluster_weights`,
    /** c. */
    centers: `${name}_cluster_weights2`,
  } as const;
}

const matrix = (name: string, shape: Shape, decayed = false): Parameter => ({ name, shape, initialiser: "msra", trained: true, decayed });
const bias = (name: string, size: number, decayed = false): Parameter => ({
  name,
  shape: [size],
  initialiser: "zeros",
  trained: true,
  decayed,
});

function batchNorm(index: number, size: number): Parameter[] {
  const names = batchNormNames(index);
  const of = (name: string, initialiser: Initialiser, trained: boolean): Parameter => ({
    name,
    shape: [size],
    initialiser,
    trained,
    decayed: false,
  });
  return [
    of(names.scale, "ones", true),
    of(names.shift, "zeros", true),
    of(names.movingMean, "zeros", false),
    of(names.movingVariance, "ones", false),
  ];
}

function aggregator(modality: ModalitySizes, { groups, clusters }: ModelSizes): Parameter[] {
  const { features, expanded, groupSize, clusterNorm, vladNorm } = modality;
  const names = aggregatorNames(modality);
  return [
    matrix(names.expansion, [features, expanded]),
    bias(names.expansionBias, expanded),
    matrix(names.attention, [expanded, groups]),
    bias(names.attentionBias, groups),
    matrix(names.clusters, [expanded, groups * clusters]),
    ...batchNorm(clusterNorm, groups * clusters),
    matrix(names.centers, [clusters, groupSize]),
    ...batchNorm(vladNorm, clusters * groupSize),
  ];
}

/** Returns every array of the model, in PaddleVideo v1.5.1's order of creation. Names, shapes, initial values and checkpoints follow this table. */
export function parameterTable(sizes: ModelSizes): readonly Parameter[] {
  const { hidden, gate, classes } = sizes;
  const eigen: Parameter = { name: "eigen_param", shape: [sizes.videoFeatures], initialiser: "eigen", trained: false, decayed: false };
  return [
    ...(sizes.videoFeatures > 0 ? [eigen] : []),
    ...modalitiesOf(sizes).flatMap((modality) => aggregator(modality, sizes)),
    matrix(HIDDEN, [vladSize(sizes), hidden]),
    ...batchNorm(4, hidden),
    matrix(GATING_REDUCE, [hidden, gate]),
    ...batchNorm(5, gate),
    matrix(GATING_EXPAND, [gate, hidden]),
    matrix(CLASSIFIER, [hidden, classes], true),
    bias(CLASSIFIER_BIAS, classes, true),
  ];
}

/** Returns the number of values in a shape: the product of its dimensions. */
export function countValues(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Returns the number of values in all arrays of a table, and in the trained ones. */
export function countParameters(table: readonly Parameter[]): { readonly all: number; readonly trained: number } {
  const count = (parameters: readonly Parameter[]): number => parameters.reduce((sum, { shape }) => sum + countValues(shape), 0);
  return { all: count(table), trained: count(table.filter(({ trained }) => trained)) };
}
