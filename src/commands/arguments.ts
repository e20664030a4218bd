import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import { FLAG_ALIASES } from "./flags.js";

/** Aliases of commands: the names of PaddleVideo's scripts. */
export const COMMAND_ALIASES: Readonly<Record<string, string>> = {
  predict: "infer",
  test: "eval",
  evaluate: "eval",
  version: "--version",
};

/** Scripts of PaddleVideo (1.5, 1.8 and 2.x) and google/youtube-8m that are no command here, and what to do instead. */
export const FOREIGN_COMMANDS: Readonly<Record<string, string>> = {
  tf2pkl: "skip this step: shards are read directly; nextvlad convert --to pkl writes pickles",
  inference_model: "use nextvlad export --format onnx",
  export_model: "use nextvlad export",
  main: "use nextvlad train, or nextvlad eval for main.py --test",
  inference: "use nextvlad infer",
  run: "use nextvlad train, eval or infer with the arguments of run.sh's commands",
  train_nextvlad: "use nextvlad train --config configs/nextvlad.yaml",
  test_nextvlad: "use nextvlad eval --weights PATH",
  infer_nextvlad: "use nextvlad infer --weights PATH",
  segment_eval_inference: "use nextvlad eval --segments",
  convert_prediction_from_json_to_csv: "use nextvlad infer --format csv",
};

const PROFILING = "remove it: the log reports how much of the time is spent waiting for data";
const MULTIPLE_DEVICES = "use --devices N to train with N processes";

/** Flags of PaddleVideo (1.5, 1.8 and 2.x), google/youtube-8m and linrongc/youtube-8m that have another name or no equivalent here, and what to do instead. */
export const FOREIGN_FLAGS: Readonly<Record<string, string>> = {
  // PaddleVideo
  "--no-memory-optimize": "remove it: memory is always reused",
  "--is-profiler": PROFILING,
  "--profiler-path": PROFILING,
  "--profiler-options": PROFILING,
  "-p": PROFILING,
  "--video-path": "use --filelist, with a list of TFRecord shards or a glob",
  "--enable-ce": "use --fix-random-seed True (the default), or a number to choose the seed",
  "--validate": "remove it: train validates after each epoch; --valid-interval sets how often",
  "--test": "use the command nextvlad eval",
  "--amp": "use --precision tf32 on a GPU",
  "--fleet": MULTIPLE_DEVICES,
  "--multigrid": "remove it: it applies to clips of pixels only",
  "--train-dali": "remove it: worker threads always read ahead",
  // google/youtube-8m: train.py, eval.py, inference.py
  "--train-data-pattern": "use --set TRAIN.filelist='train*.tfrecord'",
  "--eval-data-pattern": "use --filelist 'validate*.tfrecord' in eval, --set VALID.filelist='validate*.tfrecord' in train",
  "--input-data-pattern": "use --filelist 'test*.tfrecord'",
  "--train-dir": "use --save-dir DIR in train, --weights DIR/best in eval and infer",
  "--output-file": "use --save-dir DIR, and --format csv for Kaggle's format",
  "--top-k": "use --infer-topk N in infer, --set MODEL.topk=N in eval",
  "--base-learning-rate": "use --learning-rate RATE",
  "--learning-rate-decay": "use --set TRAIN.learning_rate_decay=FACTOR",
  "--learning-rate-decay-examples": "use --set TRAIN.lr_boundary_examples=VIDEOS",
  "--num-epochs": "use --epoch N",
  "--max-steps": "use --set TRAIN.max_iter=STEPS",
  "--export-model-steps": "use --save-interval STEPS",
  "--num-readers": "use --set TRAIN.num_readers=THREADS in train, TEST.num_readers in eval, INFER.num_readers in infer",
  "--num-gpu": MULTIPLE_DEVICES,
  "--optimizer": "remove it: the optimizer is Adam",
  "--clip-gradient-norm": "use --set TRAIN.gradient_clip=NORM",
  "--regularization-penalty": "use --set TRAIN.l2_penalty=FACTOR",
  "--label-loss": "remove it: the loss is cross entropy",
  "--model": "use --model-name",
  "--frame-features": "remove it: shards always contain frame-level features",
  "--feature-names": "use --set 'MODEL.feature_names=[rgb, audio]'",
  "--feature-sizes": "use --set MODEL.video_feature_size=1024 --set MODEL.audio_feature_size=128",
  "--start-new-model": "use --overwrite",
  "--run-once": "remove it: eval runs once",
  "--log-device-placement": "remove it: the log reports the device",
  // linrongc/youtube-8m: nextvlad.py, video_level_models.py
  "--nextvlad-cluster-size": "use --set MODEL.cluster_size=K",
  "--nextvlad-hidden-size": "use --set MODEL.hidden_size=WIDTH",
  "--groups": "use --set MODEL.groups=G",
  "--expansion": "use --set MODEL.expansion=FACTOR",
  "--drop-rate": "use --set MODEL.drop_rate=RATE",
  "--gating-reduction": "use --set MODEL.gating_reduction=FACTOR",
  "--l2-penalty": "use --set TRAIN.l2_penalty=FACTOR",
  "--video-level-classifier-model": "use --set MODEL.num_mixtures=M for MoeModel; the default is logistic regression",
  "--segment-labels": "use --segments",
  "--segment-max-pred": "remove it: Kaggle's csv has at most 100000 segments of each class",
  "--segment-label-ids-file": "use --segment-classes segment_label_ids.csv",
  "--input-model-tgz": "use --weights with a snapshot",
  "--untar-model-dir": "use --weights with a snapshot",
  "--output-model-tgz": "use the command nextvlad export",
};

/** Flags that are accepted and ignored, and why. */
export const IGNORED_FLAGS: Readonly<Record<string, string>> = {
  "--no-use-pyreader": "has no effect: worker threads always read ahead",
};

/** The command line with aliases resolved, as the parser expects it. */
interface NormalizedArguments {
  readonly args: readonly string[];
  /** The subcommand, by its canonical name; undefined if none is given. */
  readonly command: string | undefined;
  /** Notes to print about flags that are accepted and ignored. */
  readonly notes: readonly string[];
}

/**
 * Resolves aliases, and replaces underscores in flag names by dashes (`--batch_size=8`). `flagsOf`: the flags of each command.
 * Throws BAD_USAGE for `-o` in a command with `--out`, for a flag of another tool if the command has an equivalent, and for a script of another tool.
 */
export function normalizeArguments(args: readonly string[], flagsOf: ReadonlyMap<string, ReadonlySet<string>>): NormalizedArguments {
  const place = args.findIndex((arg) => !arg.startsWith("-"));
  const word = args[place] ?? "";
  const name = Object.hasOwn(COMMAND_ALIASES, word) ? (COMMAND_ALIASES[word] as string) : word;
  const command = flagsOf.has(name) ? name : undefined;
  if (command === undefined) assertNotForeign(word, flagsOf);
  const flags = flagsOf.get(name) ?? new Set();
  const notes: string[] = [];
  const normalized: string[] = [];
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  for (const [i, arg] of args.entries()) {
    if (i === place) normalized.push(name);
    else if (i >= end || !arg.startsWith("-")) normalized.push(arg);
    else {
      const { flag, value } = splitFlag(arg);
      const note = Object.hasOwn(IGNORED_FLAGS, flag) ? IGNORED_FLAGS[flag] : undefined;
      if (note !== undefined) notes.push(`${flag} ${note}`);
      else normalized.push(...translate(flag, value, arg, flags, name));
    }
  }
  return { args: normalized, command, notes };
}

/** Throws BAD_USAGE if an unknown command is a script of another tool, with or without its directory and extension, and names the command to use instead. */
function assertNotForeign(word: string, flagsOf: ReadonlyMap<string, unknown>): void {
  const script = basename(word)
    .replace(/\.(py|sh)$/, "")
    .replaceAll("-", "_");
  const command = Object.hasOwn(COMMAND_ALIASES, script) ? (COMMAND_ALIASES[script] as string) : script;
  const own = word.endsWith(".py") && flagsOf.has(command) ? `use nextvlad ${command}` : undefined;
  const remedy = Object.hasOwn(FOREIGN_COMMANDS, script) ? FOREIGN_COMMANDS[script] : own;
  if (remedy !== undefined) throw new NextvladError("BAD_USAGE", UNKNOWN_COMMAND, { key: word, remedy });
}

/** Splits an argument into the flag's name, with dashes, and the rest: `=8` of `--batch_size=8`, `x` of `-cx`. */
export function splitFlag(arg: string): { readonly flag: string; readonly value: string } {
  if (!arg.startsWith("--")) return { flag: arg.slice(0, 2), value: arg.slice(2) };
  const end = arg.includes("=") ? arg.indexOf("=") : arg.length;
  return { flag: arg.slice(0, end).replaceAll("_", "-"), value: arg.slice(end) };
}

function translate(flag: string, value: string, arg: string, flags: ReadonlySet<string>, command: string): string[] {
  if (flags.has(flag)) return [flag + value];
  if (flag === "-o" && flags.has("--out")) {
    const remedy = `use --out for the output path${flags.has("--set") ? ", --set for a config key" : ""}`;
    throw new NextvladError("BAD_USAGE", UNKNOWN_FLAG, { key: flag, remedy });
  }
  const target = targetOf(flag, flags);
  if (target !== undefined) return value === "" ? [target] : [target, value.replace(/^=/, "")];
  const remedy = Object.hasOwn(FOREIGN_FLAGS, flag) ? FOREIGN_FLAGS[flag] : undefined;
  if (remedy !== undefined && MODEL_COMMANDS.has(command) && helpsIn(flags, remedy)) {
    throw new NextvladError("BAD_USAGE", UNKNOWN_FLAG, { key: flag, remedy });
  }
  return [arg.startsWith("--") ? flag + value : arg];
}

/** The commands that the other tools have too. */
const MODEL_COMMANDS: ReadonlySet<string> = new Set(["train", "eval", "infer"]);

/** Whether a command with these flags has at least one of the flags that the remedy names; true if the remedy names none. */
function helpsIn(flags: ReadonlySet<string>, remedy: string): boolean {
  const named = remedy.match(/--[a-z-]+/g) ?? [];
  return named.length === 0 || named.some((flag) => flags.has(flag));
}

/**
 * Returns the flag that an alias stands for; undefined if the command has none. An alias has no effect in a command that declares a flag of that name. `-o` is
 * ambiguous, and no alias, in a command with `--out`.
 */
function targetOf(alias: string, flags: ReadonlySet<string>): string | undefined {
  if (alias === "-o" && flags.has("--out")) return undefined;
  return FLAG_ALIASES[alias]?.find((name) => flags.has(name));
}

/** Error text for a command that does not exist. */
export const UNKNOWN_COMMAND = "unknown command";

/** Error text for a flag that the command does not have. */
export const UNKNOWN_FLAG = "unknown flag";

/** Returns the help text that lists a command's flag aliases; empty if it has none. */
export function describeFlagAliases(flags: ReadonlySet<string>): string {
  const pairs = Object.keys(FLAG_ALIASES).flatMap((alias) => {
    const target = targetOf(alias, flags);
    return target === undefined || flags.has(alias) ? [] : [`${alias} (${target})`];
  });
  return pairs.length === 0 ? "" : `\nAliases: ${pairs.join(", ")}`;
}

/** Returns the help text that lists the command aliases. */
export function describeCommandAliases(): string {
  return `\nAliases: ${Object.entries(COMMAND_ALIASES)
    .map(([alias, target]) => `${alias} (${target})`)
    .join(", ")}`;
}
