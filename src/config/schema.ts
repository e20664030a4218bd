import { z } from "zod";
import { DEFAULT_MAX_RECORD_BYTES, LARGEST_MAX_RECORD_BYTES } from "../base/numbers.js";
import {
  boolean,
  byteSize,
  type CorruptPolicy,
  choice,
  device,
  fileList,
  fraction,
  integer,
  modelName,
  namePair,
  nonNegative,
  nullable,
  path,
  positive,
  type ValueType,
} from "./value-types.js";

/** Documentation of a key: its range in words, its help, and its values if they are few. */
export interface KeyDocs {
  readonly expected: string;
  readonly help: string;
  readonly choices: readonly string[];
}

/** Documentation of every key, by its schema. `describeKeys` lists it with the names and defaults. */
export const keyDocs = z.registry<KeyDocs>();

function key<T>(type: ValueType<T>, fallback: NonNullable<T> | (null extends T ? null : never), help: string) {
  const schema = type.schema.default(fallback as never);
  keyDocs.add(schema, { expected: type.expected, help, choices: type.choices ?? [] });
  return schema;
}

// Keys that several sections have.

const YOUTUBE8M = "./data/dataset/youtube8m";
const filelist = (fallback: string) =>
  key(fileList, `${YOUTUBE8M}/${fallback}`, "shards: a file that lists them, one per line; a glob; or a list of these");
const readers = () =>
  key(
    nullable(integer(1, 64)),
    null,
    "threads that read shards; null for 1, or 2 if more than 4 threads compute; the order of the videos does not depend on it",
  );
const TF32 = "tf32 is faster on a GPU and rounds the factors to 10 bits";
const readingPrecision = () =>
  key(
    choice("float32", "tf32", "int16", "int8"),
    "float32",
    `precision of matrix products: ${TF32}; int16 and int8 are faster on a CPU and quantize the first weights`,
  );
const onCorrupt = (scope = "") =>
  key(
    choice("error", "skip-record", "skip-shard") satisfies ValueType<CorruptPolicy>,
    "error",
    `corrupt data in shards${scope}: fail, skip the record (the rest of the shard if no next record is found), or skip the rest of the shard`,
  );
const useGpu = () => key(device, "auto", "True: the GPU, or an error without one; False: the CPU; auto: the GPU if one works");

const MODEL = z
  .strictObject({
    name: key(
      modelName,
      "NEXTVLAD",
      "model: NEXTVLAD; NETVLAD, which has no groups and no expansion; or MIX_NEXTVLAD, a mixture of three NEXTVLAD (docs/models.md)",
    ),
    num_classes: key(integer(1), 3862, "number of classes; labels are 0 to num_classes - 1 (YouTube-8M of 2018 has 3862)"),
    topk: key(integer(1), 20, "top predictions per video that count for GAP, MAP and the average precision of a class"),
    video_feature_size: key(integer(0), 1024, "features (bytes) per frame of the first modality, rgb; 0 for none"),
    audio_feature_size: key(integer(0), 128, "features (bytes) per frame of the second modality, audio; 0 for none"),
    feature_names: key(namePair, ["rgb", "audio"] as const, "names of the two modalities in the shards"),
    max_frames: key(integer(1), 300, "maximum number of frames per video; later frames are dropped"),
    segments: key(
      boolean,
      false,
      "True: the clips are 5-second segments (YouTube-8M 2019), rated ones in training, validation and evaluation, and all in inference (docs/segments.md)",
    ),
    max_record_bytes: key(
      byteSize(1, LARGEST_MAX_RECORD_BYTES),
      DEFAULT_MAX_RECORD_BYTES,
      "maximum size of a record in a shard (256 MiB); larger ones are errors",
    ),
    cluster_size: key(integer(1), 128, "clusters of each aggregator (K in the paper)"),
    hidden_size: key(integer(1), 2048, "width of the hidden layer"),
    groups: key(integer(1), 8, "groups that an expanded frame is split into (G in the paper); always 1 for NETVLAD"),
    expansion: key(integer(1), 2, "factor by which the features of a frame are expanded (lambda in the paper); always 1 for NETVLAD"),
    drop_rate: key(fraction, 0.5, "dropout rate of the descriptor in training"),
    hidden_drop_rate: key(fraction, 0, "dropout rate of the classifier's input, after context gating, in training"),
    gating_reduction: key(integer(1), 8, "width of the hidden layer divided by the width of context gating's bottleneck"),
    num_mixtures: key(
      integer(1, 64),
      1,
      "classifier: 1 for one sigmoid per class; M > 1 for a mixture of M experts per class, with a gate for each and one for none",
    ),
    eigen_file: key(
      nullable(path),
      null,
      "eigenvalues of YouTube-8M's PCA (.npy), which undo its whitening of rgb; null for none; not read if the weights contain them",
    ),
  })
  .superRefine((model, context) => {
    if (model.video_feature_size === 0 && model.audio_feature_size === 0) {
      const expected = "at least 1 if video_feature_size is 0";
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
    epoch: key(integer(1), 6, "number of epochs"),
    learning_rate: key(positive, 0.0002, "initial learning rate; with warm-up or cosine, the highest one"),
    lr_schedule: key(
      choice("step", "cosine"),
      "step",
      "step: multiply the learning rate by learning_rate_decay every lr_boundary_examples videos; cosine: lower it to 0 along a cosine over all epochs, or max_iter steps",
    ),
    warmup_examples: key(
      integer(0),
      0,
      "number of videos over which the learning rate rises linearly from 0 at the start of the run; 0 for no warm-up",
    ),
    lr_boundary_examples: key(
      integer(1),
      2_000_000,
      "number of videos after which the learning rate is multiplied by learning_rate_decay, each time",
    ),
    max_iter: key(integer(1), 700_000, "maximum number of steps, over all epochs"),
    learning_rate_decay: key(positive, 0.8, "factor of the learning rate after every lr_boundary_examples videos"),
    l2_penalty: key(nonNegative, 1e-5, "L2 weight decay of the classifier's weights and bias"),
    weight_decay: key(
      nonNegative,
      0,
      "decoupled weight decay (AdamW): each step also subtracts learning rate * weight_decay * w from every weight w of a matrix, but no bias or batch norm",
    ),
    label_smoothing: key(fraction, 0, "s in the labels y (1 - s) + s / 2 that training predicts; its loss is that of these labels"),
    mixup: key(
      nonNegative,
      0,
      "mixes each video with another of its batch, frames and labels, with weights from Beta(mixup, mixup); 0 for none",
    ),
    class_balance: key(
      boolean,
      false,
      "True repeats videos of rare classes within an epoch; a run then reads the labels of all videos before its first step",
    ),
    gradient_clip: key(nullable(positive), null, "maximum norm of each variable's gradient (as in the paper's code); null for no clipping"),
    gradient_clip_norm: key(nullable(nonNegative), null, "no effect, as in PaddleVideo; use gradient_clip to clip gradients"),
    ema_decay: key(
      nullable(fraction),
      null,
      "decay of an exponential moving average of the weights, such as 0.999, which is validated and saved too; null for none",
    ),
    use_gpu: useGpu(),
    precision: key(choice("float32", "tf32"), "float32", `precision of matrix products: ${TF32}`),
    num_gpus: key(integer(0), 1, "maximum number of GPUs, one process each, without --devices; batch_size is the total"),
    batch_size: key(integer(1), 160, "batch size"),
    accumulate: key(
      integer(1),
      1,
      "number of parts of a batch whose frames are computed one after another: the same results with less memory and more time",
    ),
    sync_bn: key(
      boolean,
      true,
      "with several processes: True normalizes by the statistics of the whole batch, False by those of each process's share, as in PaddleVideo",
    ),
    filelist: filelist("train.list"),
    mix_temperature: key(
      positive,
      3,
      "temperature of the distillation from the mixture to its branches; no effect on models other than MIX_NEXTVLAD",
    ),
    teacher: key(
      nullable(fileList),
      null,
      "distillation: result files of nextvlad infer with another model's probabilities for all training videos; null for none",
    ),
    teacher_weight: key(fraction, 0.5, "share of the teacher's probabilities in the targets of the loss; the rest is the labels' share"),
    num_readers: readers(),
    on_corrupt: onCorrupt(", in validation too"),
    on_nan: key(choice("stop", "skip-batch"), "stop", "NaN or Inf in the loss: stop, or skip the update of the batch"),
    shuffle_buffer: key(integer(1), 1024, "size of the shuffle buffer in videos; 1 for the order of the shards"),
    seed: key(integer(0, 2 ** 32 - 1), 0, "seed of the initial weights, the order and the repetition of the videos, dropout and mixup"),
  })
  .superRefine((train, context) => {
    const { batch_size, lr_boundary_examples, accumulate, mixup, teacher } = train;
    const report = (key: string, input: number, expected: string): void =>
      context.addIssue({ code: "custom", path: [key], params: { expected }, message: expected, input });
    // An invalid batch size is a problem of its own, and comparisons with it would add others.
    if (batch_size < 1) return;
    if (lr_boundary_examples < batch_size) report("lr_boundary_examples", lr_boundary_examples, `at least batch_size = ${batch_size}`);
    if (mixup > 0 && batch_size < 2) report("mixup", mixup, "0 if batch_size is 1: there is no other video to mix with");
    if (mixup > 0 && teacher !== null) report("mixup", mixup, "0 with a teacher, whose probabilities are those of single videos");
    if (accumulate > batch_size) report("accumulate", accumulate, `at most batch_size = ${batch_size}`);
  });

const VALID = z.strictObject({
  batch_size: key(integer(1), 160, "batch size in validation"),
  filelist: filelist("val.list"),
  num_readers: readers(),
});

const TEST = z.strictObject({
  use_gpu: useGpu(),
  batch_size: key(integer(1), 40, "batch size in evaluation"),
  precision: readingPrecision(),
  filelist: filelist("test.list"),
  num_readers: readers(),
  on_corrupt: onCorrupt(),
});

const INFER = z.strictObject({
  use_gpu: useGpu(),
  batch_size: key(integer(1), 1, "batch size in inference; 1, PaddleVideo's value, means 32, or less if memory is short"),
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
