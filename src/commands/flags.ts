import { type Command, Option } from "commander";
import { MAX_THREADS } from "../base/threads.js";
import type { Override } from "../config/load.js";
import type { Config, SectionName } from "../config/schema.js";
import type { FileList } from "../data/file-list.js";
import { FORMAT_HELP, FORMAT_NAMES } from "../results/result-formats.js";
import {
  epochs,
  fileLists,
  fileWeights,
  integer,
  interval,
  negated,
  path,
  range,
  recordLimit,
  repeated,
  resultFormats,
  seed,
  twoNames,
  validationInterval,
} from "./flag-values.js";
import { groupOf } from "./help.js";

/** The subcommands. */
export type CommandName =
  | "train"
  | "eval"
  | "infer"
  | "export"
  | "average"
  | "ensemble"
  | "digits"
  | "convert"
  | "verify"
  | "inspect"
  | "report"
  | "doctor"
  | "completion"
  | "setup";

/** The config sections of the commands that have one. In a flag's keys, `*` stands for the section of the command. */
const SECTIONS: Partial<Record<CommandName, SectionName>> = { train: "TRAIN", eval: "TEST", infer: "INFER" };

type KeyOf<S extends SectionName> = keyof Config[S] & string;
type ConfigKey = { [S in SectionName]: `${S}.${KeyOf<S>}` }[SectionName] | `*.${KeyOf<"TRAIN"> | KeyOf<"TEST"> | KeyOf<"INFER">}`;

/** The columns of the table that most flags do not need. `V` is the type of the value, `D` that of the default. */
interface FlagOptions<V, D> {
  /** Parses the value; `before` is that of an earlier occurrence of the flag. Without it, the value is text. */
  parse?(text: string, before?: V): V;
  readonly choices?: readonly V[];
  readonly default?: D;
  /** The default in words, for the help. */
  readonly defaultText?: string;
  readonly isRequired?: boolean;
  /** Config keys that the flag sets. The config validates the value and has the default. */
  readonly keys?: readonly ConfigKey[];
  /** Converts the value for the config; undefined leaves the keys unchanged. */
  toConfig?(value: V | true): unknown;
  readonly aliases?: readonly string[];
  /** Another flag that cannot be combined with this one, as a property name. */
  readonly conflicts?: string;
}

/** A row of the table: a flag of the commands `C` with the name `N` and a value of type `V`; `A`: whether the flag always has a value. */
interface Flag<C extends CommandName, N extends string, V, A extends boolean> extends FlagOptions<V, unknown> {
  readonly commands: readonly C[];
  readonly name: N;
  readonly help: string;
  readonly isAlwaysSet: A;
}

/**
 * Declares a flag of some commands. `name` includes the placeholder of the value, as the help shows it: `--batch-size <videos>`. A value in brackets may be
 * omitted, and is then `true`. Of a flag `--no-x`, the property `x` is false, or true if it is not given.
 */
function flag<
  const C extends CommandName,
  const N extends `--${string}`,
  const V = string,
  const D extends V | undefined = undefined,
  const R extends boolean = false,
>(commands: readonly C[], name: N, help: string, options: FlagOptions<V, D> & { readonly isRequired?: R } = {}) {
  const isAlwaysSet = options.isRequired === true || options.default !== undefined;
  type IsAlwaysSet = R extends true ? true : [D] extends [undefined] ? false : true;
  return { commands, name, help, ...options, isAlwaysSet } as unknown as Flag<C, N, V, IsAlwaysSet>;
}

const CONFIG = { parse: path, aliases: ["-c"] };
const SET = { parse: repeated, aliases: ["-o", "--override"] };
const WEIGHTS =
  "a snapshot, Paddle variables (a directory or its .tar.gz), or a .pdparams, .safetensors or .npz file (default: the published weights in ~/.paddle/weights)";
const DEVICES = "compute with N processes, one per GPU; on the CPU, they divide the threads";
const MAX_RECORD_BYTES = "maximum size of a record in a shard, such as 512M; larger ones are errors";

/**
 * All flags, in the order of the help: which commands take them, name, help, parser, default, aliases, and the config keys that they set. The options of the
 * parser, the types of the flags, the config overrides and the help are derived from this table.
 */
const TABLE = [
  flag(["train", "eval", "infer"], "--config <file>", "YAML config; may be omitted if the weights contain one", CONFIG),
  flag(
    ["export"],
    "--config <file>",
    "YAML config whose MODEL section fits the weights (default: the config stored with the weights)",
    CONFIG,
  ),
  flag(["train", "eval", "infer"], "--set <SECTION.key=value>", "set any config key; overrides the other flags; may be repeated", SET),
  flag(["train", "eval", "infer"], "--model-name <name>", "model architecture", { keys: ["MODEL.name"] }),

  flag(["eval", "infer", "export"], "--weights <path>", WEIGHTS, { parse: path, aliases: ["-w"] }),
  flag(["eval", "infer"], "--filelist <list...>", "shards: a file that lists them (- for stdin), a glob, or paths", {
    parse: fileLists,
    keys: ["*.filelist"],
  }),
  flag(
    ["train"],
    "--resume [weights]",
    "resume from a snapshot or Paddle checkpoint; without a path, from the newest valid snapshot in --save-dir",
    { parse: path },
  ),
  flag(["train"], "--resume-step <steps>", "number of steps that a Paddle checkpoint has taken, if it does not record them", {
    parse: integer(0),
  }),
  flag(["train"], "--pretrain <weights>", "initialize from these weights; missing and mismatched parameters are initialized randomly", {
    parse: path,
    aliases: ["-w"],
    conflicts: "resume",
  }),

  flag(["train"], "--batch-size <videos>", "batch size for training and validation", { keys: ["TRAIN.batch_size", "VALID.batch_size"] }),
  flag(["eval"], "--batch-size <videos>", "batch size", { keys: ["*.batch_size"] }),
  flag(["infer"], "--batch-size <videos>", "batch size", { keys: ["*.batch_size"], defaultText: "32, or less if memory is short" }),
  flag(["train"], "--accumulate <N>", "compute each batch in N parts: the same results with less memory and more time", {
    keys: ["TRAIN.accumulate"],
  }),
  flag(
    ["train"],
    "--no-sync-bn",
    "with several processes, normalize each one's share of a batch by its own statistics, as in PaddleVideo",
    { keys: ["TRAIN.sync_bn"], toConfig: negated },
  ),
  flag(["train"], "--epoch <epochs>", "number of epochs; 0 for the config's", { keys: ["TRAIN.epoch"], toConfig: epochs }),
  flag(["train"], "--learning-rate <rate>", "initial learning rate", { keys: ["TRAIN.learning_rate"], aliases: ["--lr"] }),
  flag(["train"], "--fix-random-seed [choice]", "random seed: a number, True for the config's, or False for one from the clock", {
    keys: ["TRAIN.seed"],
    toConfig: seed,
    aliases: ["--seed"],
  }),
  flag(
    ["train"],
    "--valid-interval <interval>",
    "validate every N epochs, or every N steps (500steps), each with a snapshot; 0 for never",
    {
      parse: validationInterval,
      default: { epochs: 1 },
      defaultText: "1",
    },
  ),
  flag(["train"], "--early-stop <N>", "end the run when N validations in a row have not raised the GAP (with --full-ranking, the mAP)", {
    parse: integer(1),
    defaultText: "never",
  }),
  flag(["train"], "--full-ranking", "also validate by mAP, mAUC and d-prime over the full ranking of all videos in each class"),

  flag(
    ["train"],
    "--limit-videos <N>",
    "for trials: read only N videos in each epoch, always the same ones, and the first N in each validation",
    {
      parse: integer(1),
      defaultText: "all",
    },
  ),
  flag(["eval", "infer"], "--limit-videos <N>", "for trials: read only the first N videos", { parse: integer(1), defaultText: "all" }),
  flag(["train", "eval"], "--segments", "use the rated 5-second segments of the videos (YouTube-8M 2019) instead of whole videos", {
    keys: ["MODEL.segments"],
  }),
  flag(["infer"], "--segments", "classify each 5-second segment of the videos, and write Kaggle's csv of YouTube-8M 2019 too", {
    keys: ["MODEL.segments"],
  }),
  flag(["infer"], "--segment-classes <file>", "the classes of segments: YouTube-8M's segment_label_ids.csv, or one class index per line", {
    parse: path,
    defaultText: "all",
  }),
  flag(
    ["train", "eval", "infer"],
    "--on-corrupt <policy>",
    "corrupt data in shards: error; skip-record (the rest of the shard if no next record is found); skip-shard (the rest of the shard)",
    { keys: ["*.on_corrupt"] },
  ),
  flag(
    ["train"],
    "--on-nan <policy>",
    "NaN or Inf in the loss: stop, at the next log line; or skip-batch, which checks each step, skips the update, and stops after 10 in a row; both list the batches in nan_batches.json",
    { keys: ["TRAIN.on_nan"] },
  ),

  flag(
    ["train"],
    "--smoke",
    "only a trial of the config and the data: train for two steps, evaluate and infer in a temporary directory, and print how long each takes",
    { conflicts: "resume" },
  ),

  flag(["train"], "--save-dir <dir>", "directory for snapshots and the log", { parse: path, default: "./data/checkpoints" }),
  flag(["eval"], "--save-dir <dir>", "directory for results and the log", { parse: path, default: "./data/evaluate_results" }),
  flag(["infer"], "--save-dir <dir>", "directory for results and the log", { parse: path, default: "./data/predict_results" }),
  flag(["train"], "--save-interval <interval>", "also save inside epochs: every N steps (500), or after a time (90s, 30m, 2h)", {
    parse: interval,
  }),
  flag(["eval", "infer"], "--save-interval <interval>", "save partial results every N batches (500), or after a time (90s, 30m, 2h)", {
    parse: interval,
    defaultText: "10s",
  }),
  flag(["train"], "--keep <N>", "keep the N newest snapshots (and best)", { parse: integer(1), defaultText: "all" }),
  flag(["eval", "infer"], "--resume", "resume the run that stopped in --save-dir; without partial results, start from the beginning"),
  flag(["infer", "ensemble"], "--infer-topk <N>", "maximum number of classes per video", { parse: integer(1), default: 20 }),
  flag(["eval"], "--predictions [formats]", `also write the predictions: ${FORMAT_NAMES}, separated by commas; pickle if omitted`, {
    parse: resultFormats,
  }),
  flag(["eval"], "--full-ranking", "also compute mAP, mAUC and d-prime over the full ranking of all videos in each class"),
  flag(["infer", "ensemble"], "--format <formats>", `result formats, separated by commas: ${FORMAT_HELP}`, {
    parse: resultFormats,
    default: ["pickle"],
    defaultText: "pickle",
  }),
  flag(
    ["infer", "ensemble"],
    "--labels <file>",
    "class names for csv, jsonl and the terminal: YouTube-8M's vocabulary.csv, or one name per line",
    {
      parse: path,
    },
  ),
  flag(
    ["eval"],
    "--labels <file>",
    "class names for the terminal, the diagnostics, the report, csv and jsonl: YouTube-8M's vocabulary.csv, or one name per line",
    { parse: path },
  ),

  flag(["ensemble"], "--weights <weights>", "weight of each file, such as 0.7,0.3; normalized to a sum of 1", {
    parse: fileWeights,
    defaultText: "equal",
    aliases: ["-w"],
  }),
  flag(["ensemble"], "--filelist <list>", "labeled shards of the same videos (a list, - or a glob) to compute metrics on", {
    parse: (text: string): FileList => path(text),
  }),
  flag(["ensemble"], "--config <file>", "YAML config whose MODEL section describes those shards (default: YouTube-8M's)", CONFIG),
  flag(["ensemble"], "--set <SECTION.key=value>", "set a key of that config; may be repeated", SET),
  flag(["ensemble"], "--save-dir <dir>", "directory for results and the log", { parse: path, default: "./data/ensemble_results" }),

  flag(["export"], "--format <format>", "output format", {
    choices: ["pdparams", "paddle-vars", "safetensors", "npz", "onnx"],
    isRequired: true,
  }),
  flag(["export"], "--out <path>", "output file; a directory for paddle-vars; the prefix of .pdparams and .pdopt for pdparams", {
    parse: path,
    isRequired: true,
  }),
  flag(["export"], "--set <SECTION.key=value>", "set a config key, such as MODEL.drop_rate for onnx; may be repeated", SET),

  flag(["average"], "--out <file>", "output file, in the safetensors format", { parse: path, isRequired: true }),

  flag(["digits"], "--out <dir>", "directory for shards and their lists", { parse: path, isRequired: true }),
  flag(["digits"], "--train-videos <N>", "number of training videos", { parse: integer(1), default: 3000 }),
  flag(["digits"], "--validate-videos <N>", "number of validation videos", { parse: integer(1), default: 500 }),
  flag(["digits"], "--seed <seed>", "random seed", { parse: integer(0, 2 ** 32 - 1), default: 0 }),

  flag(["convert"], "--to <format>", "output format", { choices: ["tfrecord", "pkl"], isRequired: true }),
  flag(["convert"], "--out <dir>", "directory for shards, their list and the log", { parse: path, isRequired: true }),
  flag(
    ["convert"],
    "--filelist <list...>",
    "shards to convert (TFRecords, pickles or MediaPipe's features.pb): a file that lists them, a glob, or paths",
    { parse: fileLists },
  ),
  flag(["convert"], "--feature-names <names>", "names of the two modalities in TFRecords", {
    parse: twoNames,
    default: ["rgb", "audio"],
    defaultText: "rgb,audio",
  }),
  flag(["convert"], "--feature-dtype <type>", "with --filelist: type of frames stored as bytes; floats (little-endian) are quantized", {
    choices: ["uint8", "float16", "float32"],
  }),
  flag(["convert"], "--csv <file>", "instead of shards: a table of your own videos with columns id and labels (class indices)", {
    parse: path,
  }),
  flag(["convert"], "--rgb <pattern>", "with --csv: .npy or .npz files of the first modality; {id} stands for the video's ID", {
    parse: path,
  }),
  flag(["convert"], "--audio <pattern>", "with --csv: the same for the second modality; one of the two may be omitted", { parse: path }),
  flag(["convert"], "--rgb-range <range>", "float values that become the bytes 0 and 255", {
    parse: range,
    default: [-2, 2],
    defaultText: "-2..2",
  }),
  flag(["convert"], "--audio-range <range>", "the same for the second modality", { parse: range, default: [-2, 2], defaultText: "-2..2" }),
  flag(["convert"], "--videos-per-shard <N>", "with --csv: videos per shard", { parse: integer(1), default: 250 }),
  flag(["convert"], "--max-frames <N>", "maximum nframes of a pickle, as in tf2pkl.py", { parse: integer(1), default: 300 }),
  flag(["convert"], "--workers <threads>", "worker threads; each converts a shard", {
    parse: integer(1, 256),
    defaultText: "one per available CPU",
  }),

  flag(["report"], "--out <file>", "the HTML page to write", { parse: path, isRequired: true }),
  flag(["report"], "--labels <file>", "class names, instead of those that eval knew: YouTube-8M's vocabulary.csv, or one name per line", {
    parse: path,
  }),

  flag(["verify"], "--config <file>", "YAML config whose MODEL section describes the videos (default: YouTube-8M's)", CONFIG),
  flag(["verify"], "--set <MODEL.key=value>", "set a key of that section; may be repeated", SET),
  flag(["verify"], "--require-labels", "report videos without labels"),
  flag(["verify"], "--readers <threads>", "reader threads", { parse: integer(1, 64), defaultText: "one per available CPU" }),

  flag(["train", "eval", "infer", "verify"], "--max-record-bytes <size>", MAX_RECORD_BYTES, { keys: ["MODEL.max_record_bytes"] }),
  flag(["convert", "inspect"], "--max-record-bytes <size>", MAX_RECORD_BYTES, { parse: recordLimit, defaultText: "256M" }),
  flag(["train"], "--precision <precision>", "precision of matrix products: float32, or tf32 on a GPU", { keys: ["*.precision"] }),
  flag(
    ["eval", "infer"],
    "--precision <precision>",
    "precision of matrix products: float32; tf32 on a GPU; int16 or int8 on a CPU, for products with the features",
    { keys: ["*.precision"] },
  ),
  flag(
    ["train", "eval", "infer"],
    "--use-gpu [choice]",
    "True: the GPU, or an error without one; False: the CPU; auto: the GPU if one works; True if omitted",
    { keys: ["*.use_gpu"] },
  ),
  flag(["train"], "--devices <N>", DEVICES, { parse: integer(1, 1024), defaultText: "one per GPU, at most TRAIN.num_gpus" }),
  flag(["eval", "infer"], "--devices <N>", DEVICES, { parse: integer(1, 1024), defaultText: "1" }),
  flag(["train", "eval", "infer"], "--threads <N>", "threads that compute", {
    parse: integer(1, MAX_THREADS),
    defaultText: "OMP_NUM_THREADS, or one per available CPU",
  }),
  flag(["setup"], "--device <device>", "build of TensorFlow (default: gpu with an NVIDIA driver, else cpu)", { choices: ["cpu", "gpu"] }),
  flag(["train"], "--log-interval <steps>", "log every N steps, also for TensorBoard; 0 for never", { parse: integer(0), default: 10 }),
  flag(["train"], "--histogram-interval <steps>", "write histograms of the parameters for TensorBoard every N steps; 0 for never", {
    parse: integer(0),
    defaultText: "never",
  }),
  flag(["eval", "infer"], "--log-interval <batches>", "log every N batches; 0 for never", {
    parse: integer(0),
    defaultText: "every 10 s",
  }),
  flag(["train", "eval"], "--report", "also write report.html, a page about the results, to --save-dir"),
  flag(
    ["train", "eval", "infer", "export", "average", "ensemble", "digits", "convert", "verify", "inspect", "report", "doctor"],
    "--json",
    "print the result as one JSON document",
  ),
  flag(
    ["train", "eval", "infer", "ensemble", "convert"],
    "--quiet",
    "print no progress and no log on the terminal, except for warnings and errors",
  ),
  flag(
    ["train", "eval", "infer", "ensemble"],
    "--verbose",
    "also log config values that are not defaults and where they are from, shards as they are read, and timings",
    { conflicts: "quiet" },
  ),
  flag(["train"], "--overwrite", "replace another run's snapshots in --save-dir, and a config.yaml or best that train did not write"),
  flag(["eval", "infer", "ensemble"], "--overwrite", "replace files at the results' paths that nextvlad did not write"),
  flag(["export"], "--overwrite", "replace existing files"),
  flag(["average"], "--overwrite", "replace an existing file"),
  flag(["report"], "--overwrite", "replace an existing file that is not a report"),
  flag(["digits"], "--overwrite", "replace existing shards and lists"),
  flag(["convert"], "--overwrite", "replace shards and a list that convert did not write"),
] as const;

type Row = (typeof TABLE)[number];
type RowOf<C extends CommandName> = Row extends infer R
  ? R extends { commands: readonly (infer Cs)[] }
    ? C extends Cs
      ? R
      : never
    : never
  : never;
type LongName<N> = N extends `--no-${infer Name}`
  ? Name
  : N extends `--${infer Name} ${string}`
    ? Name
    : N extends `--${infer Name}`
      ? Name
      : never;
type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}` ? `${Head}${Capitalize<CamelCase<Tail>>}` : S;
type PropertyOf<R extends Row> = CamelCase<LongName<R["name"]>>;
type ValueOf<R extends Row> =
  R extends Flag<CommandName, infer N, infer V, boolean>
    ? N extends `${string}[${string}`
      ? V | true
      : N extends `${string}<${string}`
        ? V
        : N extends `--no-${string}`
          ? boolean
          : true
    : never;

/** The parsed flags of a command, by their names in camel case. */
export type FlagsOf<C extends CommandName> = {
  readonly [R in RowOf<C> as R["isAlwaysSet"] extends true ? PropertyOf<R> : never]: ValueOf<R>;
} & {
  readonly [R in RowOf<C> as R["isAlwaysSet"] extends true ? never : PropertyOf<R>]?: ValueOf<R>;
};

export type TrainFlags = FlagsOf<"train">;
export type EvalFlags = FlagsOf<"eval">;
export type InferFlags = FlagsOf<"infer">;
export type ExportFlags = FlagsOf<"export">;
export type AverageFlags = FlagsOf<"average">;
export type EnsembleFlags = FlagsOf<"ensemble">;
export type DigitsFlags = FlagsOf<"digits">;
export type ConvertFlags = FlagsOf<"convert">;
export type VerifyFlags = FlagsOf<"verify">;
export type InspectFlags = FlagsOf<"inspect">;
export type ReportFlags = FlagsOf<"report">;
export type DoctorFlags = FlagsOf<"doctor">;
export type SetupFlags = FlagsOf<"setup">;

type AnyFlag = Flag<CommandName, string, unknown, boolean>;

function flagsOf(command: CommandName): readonly AnyFlag[] {
  return (TABLE as readonly AnyFlag[]).filter(({ commands }) => commands.includes(command));
}

function keysOf({ keys = [] }: AnyFlag, command: CommandName): readonly string[] {
  return keys.map((key) => (key.startsWith("*.") ? `${SECTIONS[command]}${key.slice(1)}` : key));
}

/** Adds the flags of the table to a command of the parser. */
export function addFlags(parser: Command, command: CommandName): void {
  for (const row of flagsOf(command)) {
    const keys = keysOf(row, command);
    // The parser appends a default that it knows.
    const defaultText = row.default === undefined && row.defaultText !== undefined ? ` (default: ${row.defaultText})` : "";
    const option = new Option(row.name, `${row.help}${defaultText}${keys.length === 0 ? "" : ` [config: ${keys.join(", ")}]`}`);
    if (row.parse !== undefined) option.argParser(row.parse);
    if (row.choices !== undefined) option.choices(row.choices as readonly string[]);
    if (row.default !== undefined) option.default(row.default, row.defaultText);
    if (row.isRequired) option.makeOptionMandatory();
    if (row.conflicts !== undefined) option.conflicts(row.conflicts);
    parser.addOption(option.helpGroup(groupOf(row.name, command)));
  }
}

/** Aliases of flags: an alias stands for the first of these flags that the command has. */
export const FLAG_ALIASES: Readonly<Record<string, readonly string[]>> = collectAliases();

function collectAliases(): Record<string, readonly string[]> {
  const found: Record<string, readonly string[]> = {};
  for (const { name, aliases = [] } of TABLE as readonly AnyFlag[]) {
    const long = longName(name);
    for (const alias of aliases) found[alias] = [...new Set([...(found[alias] ?? []), long])];
  }
  return found;
}

/** Returns `--batch-size` for `--batch-size <videos>`. */
function longName(name: string): string {
  return name.split(" ", 1)[0] as string;
}

/** Returns the config overrides of a command's flags. As in PaddleVideo, `--batch-size` of `train` applies to validation too. */
export function configOverrides<C extends CommandName>(command: C, flags: FlagsOf<C>): readonly Override[] {
  return flagsOf(command).flatMap((row) => {
    const given = (flags as Readonly<Record<string, unknown>>)[new Option(row.name).attributeName()];
    const value = given === undefined || row.toConfig === undefined ? given : row.toConfig(given);
    return value === undefined ? [] : keysOf(row, command).map((key) => ({ key, flag: longName(row.name), value }));
  });
}

/** Returns the config keys that a flag (`--on-corrupt`) of a command sets. */
export function overriddenKeys(command: CommandName, long: string): readonly string[] {
  return flagsOf(command).flatMap((row) => (longName(row.name) === long ? keysOf(row, command) : []));
}
