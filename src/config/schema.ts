import { z } from "zod";
import { DEFAULT_MAX_RECORD_BYTES, LARGEST_MAX_RECORD_BYTES } from "../base/byte-size.js";
import {
  byteSize,
  corruptPolicy,
  device,
  fileList,
  type Kind,
  modelName,
  namePair,
  nanPolicy,
  notNegative,
  nullable,
  path,
  positive,
  precision,
  share,
  trainingPrecision,
  whole,
} from "./kinds.js";

/** Documentation of a key: its range in words, and its help. */
export interface KeyNotes {
  readonly expected: string;
  readonly help: string;
}

/** Documentation of every key, by its schema. */
export const keyNotes = z.registry<KeyNotes>();

function key<T>(kind: Kind<T>, fallback: NonNullable<T> | (null extends T ? null : never), help: string) {
  const schema = kind.schema.default(fallback as never);
  keyNotes.add(schema, { expected: kind.expected, help });
  return schema;
}

const YOUTUBE8M = "./data/dataset/youtube8m";
const filelist = (fallback: string) =>
  key(fileList, `${YOUTUBE8M}/${fallback}`, "a file that lists the shards, one a line, or a glob that matches them; or a list of these");
const readers = () => key(whole(1, 64), 2, "worker threads that read shards; the order of videos does not depend on it");
const TF32 = "tf32 is faster on a GPU, all of whose products then round their factors to ten binary digits";
const readingPrecision = () =>
  key(precision, "float32", `of matrix products: ${TF32}; on the CPU int16 and int8 are, and round the weights that meet the features`);
const onCorrupt = (also = "") =>
  key(
    corruptPolicy,
    "error",
    `damaged data in shards${also}: end the run, or leave out the record (where no next one can be found, the rest of its shard), or the rest of the shard`,
  );
const useGpu = () => key(device, "auto", "True: the GPU, or an error that says why not; False: the CPU; auto: the GPU where one works");

const MODEL = z
  .strictObject({
    name: key(
      modelName,
      "NEXTVLAD",
      "the model, named after its aggregator: NEXTVLAD, or NETVLAD, which has neither groups nor an expansion",
    ),
    num_classes: key(whole(1), 3862, "classes; labels are 0 to num_classes - 1 (YouTube-8M of 2018 has 3862)"),
    topk: key(whole(1), 20, "predictions of a video that count for GAP, MAP and the average precision of a class"),
    video_feature_size: key(whole(0), 1024, "bytes a frame of the first feature; 0 leaves it out"),
    audio_feature_size: key(whole(0), 128, "bytes a frame of the second feature; 0 leaves it out"),
    feature_names: key(namePair, ["rgb", "audio"] as const, "names of the two features in the shards"),
    max_frames: key(whole(1), 300, "frames of a video that are used; what comes after is cut"),
    max_record_bytes: key(
      byteSize(1, LARGEST_MAX_RECORD_BYTES),
      DEFAULT_MAX_RECORD_BYTES,
      "longest record of a shard that is read (256 MiB)",
    ),
    cluster_size: key(whole(1), 128, "clusters of each aggregator (the paper's K)"),
    hidden_size: key(whole(1), 2048, "width of the hidden layer"),
    groups: key(whole(1), 8, "groups that an expanded frame is split into (the paper's G); NETVLAD: always 1"),
    expansion: key(whole(1), 2, "factor by which a frame's features are widened first (the paper's lambda); NETVLAD: always 1"),
    drop_rate: key(share, 0.5, "share of the descriptor that dropout sets to 0 in training"),
    gating_reduction: key(whole(1), 8, "factor by which the gate's bottleneck is narrower than the hidden layer"),
    eigen_file: key(
      nullable(path),
      null,
      "eigenvalues of YouTube-8M's PCA (.npy) that undo its whitening of rgb; null: none. Not read where weights bring them",
    ),
  })
  .superRefine((model, context) => {
    if (model.video_feature_size === 0 && model.audio_feature_size === 0) {
      const expected = "1 or more, where video_feature_size is 0";
      context.addIssue({ code: "custom", path: ["audio_feature_size"], params: { expected }, message: expected, input: 0 });
    }
    for (const size of ["video_feature_size", "audio_feature_size"] as const) {
      if (model.name === "NETVLAD") continue;
      const width = model.expansion * model[size];
      if (width % model.groups === 0) continue;
      const expected = `a divisor of expansion * ${size} = ${width}`;
      context.addIssue({ code: "custom", path: ["groups"], params: { expected }, message: expected, input: model.groups });
    }
    if (model.hidden_size % model.gating_reduction !== 0) {
      const expected = `a divisor of hidden_size = ${model.hidden_size}`;
      context.addIssue({
        code: "custom",
        path: ["gating_reduction"],
        params: { expected },
        message: expected,
        input: model.gating_reduction,
      });
    }
  })
  .overwrite((model) => (model.name === "NETVLAD" ? { ...model, groups: 1, expansion: 1 } : model));

const TRAIN = z
  .strictObject({
    epoch: key(whole(1), 6, "epochs to train"),
    learning_rate: key(positive, 0.0002, "learning rate at the start"),
    lr_boundary_examples: key(whole(1), 2_000_000, "videos after which the learning rate falls, again and again"),
    max_iter: key(whole(1), 700_000, "steps at most, whatever the epochs"),
    learning_rate_decay: key(positive, 0.8, "factor by which the learning rate falls"),
    l2_penalty: key(notNegative, 1e-5, "L2 decay of the classifier's weights and bias"),
    gradient_clip: key(nullable(positive), null, "largest norm of each variable's gradient (as in the paper's code); null: no clipping"),
    gradient_clip_norm: key(
      nullable(notNegative),
      null,
      "not applied: PaddleVideo reads this key and never uses it; gradient_clip does clip",
    ),
    use_gpu: useGpu(),
    precision: key(trainingPrecision, "float32", `of matrix products: ${TF32}`),
    num_gpus: key(whole(0), 1, "changes nothing: one device computes, and batch_size is the total"),
    batch_size: key(whole(1), 160, "videos a step, in total"),
    filelist: filelist("train.list"),
    num_readers: readers(),
    on_corrupt: onCorrupt(", also in validation"),
    on_nan: key(nanPolicy, "stop", "a loss that is no number: end the run, or leave the batch out of weights, moments and statistics"),
    shuffle_buffer: key(whole(1), 1024, "videos among which the next one is drawn; 1: the shards' own order"),
    seed: key(whole(0, 2 ** 32 - 1), 0, "fixes the first weights, the order of videos and dropout"),
  })
  .superRefine((train, context) => {
    if (train.lr_boundary_examples >= train.batch_size) return;
    const expected = `at least batch_size = ${train.batch_size}`;
    context.addIssue({
      code: "custom",
      path: ["lr_boundary_examples"],
      params: { expected },
      message: expected,
      input: train.lr_boundary_examples,
    });
  });

const VALID = z.strictObject({
  batch_size: key(whole(1), 160, "videos a step in validation"),
  filelist: filelist("val.list"),
  num_readers: readers(),
});

const TEST = z.strictObject({
  use_gpu: useGpu(),
  batch_size: key(whole(1), 40, "videos a step in evaluation"),
  precision: readingPrecision(),
  filelist: filelist("test.list"),
  num_readers: readers(),
  on_corrupt: onCorrupt(),
});

const INFER = z.strictObject({
  use_gpu: useGpu(),
  batch_size: key(whole(1), 1, "videos per batch in inference; 1, PaddleVideo's value, is not used: 32, or fewer if memory is short"),
  precision: readingPrecision(),
  filelist: filelist("infer.list"),
  num_readers: readers(),
  on_corrupt: onCorrupt(),
});

/** Schemas of the sections of a config file. A section that is missing or empty has all defaults. */
export const sections = { MODEL, TRAIN, VALID, TEST, INFER } as const;

/** The name of a section. */
export type SectionName = keyof typeof sections;

/** Whether a value is a plain object. A Map, Set or Date has no entries of its own, and would pass as an empty section. */
export function isMapping(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Replaces a missing section by {}, and a value that is not a plain object by `false`, which zod rejects: it would accept a Map as an object. */
const emptyAsDefaults = <T extends z.ZodType>(section: T) =>
  z.preprocess((value) => {
    if (value === undefined || value === null) return {};
    return isMapping(value) ? value : false;
  }, section);

/** Schema of a config file: PaddleVideo v1.8's sections and keys, and additional ones. The defaults are the published recipe's. */
export const configSchema = z.strictObject({
  MODEL: emptyAsDefaults(MODEL),
  TRAIN: emptyAsDefaults(TRAIN),
  VALID: emptyAsDefaults(VALID),
  TEST: emptyAsDefaults(TEST),
  INFER: emptyAsDefaults(INFER),
});

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** A validated and complete config, deeply frozen. */
export type Config = DeepReadonly<z.output<typeof configSchema>>;
