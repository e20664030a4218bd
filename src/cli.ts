import { availableParallelism } from "node:os";
import { Command, Option } from "commander";
import { refuseNonUtf8Folder } from "./base/paths.js";
import { describeCommandAliases, describeFlagAliases } from "./commands/arguments.js";
import {
  type ConvertFlags,
  type DigitsFlags,
  type EnsembleFlags,
  type EvalFlags,
  type ExportFlags,
  fileLists,
  gather,
  type InferFlags,
  type InspectFlags,
  integer,
  interval,
  path,
  paths,
  range,
  recordLimit,
  resultFormats,
  type SetupFlags,
  shares,
  type TrainFlags,
  twoNames,
  type VerifyFlags,
} from "./commands/options.js";
import { flagsOfCommand, leave, runProcess } from "./commands/process.js";
import {
  formatOption,
  LABELS,
  logBySteps,
  logByTime,
  MAX_RECORD_BYTES,
  overwriteOption,
  WEIGHTS,
  withConfig,
  withResume,
  withWeights,
} from "./commands/shared-flags.js";
import { version } from "./commands/version.js";
import type { FileList } from "./data/file-list.js";

/** The commands and their flags. */
export const program = new Command("nextvlad")
  .description("NeXtVLAD video classification on YouTube-8M: train, evaluate and infer straight from TFRecord shards")
  .version(version(), "-v, --version")
  .exitOverride()
  .configureOutput({ outputError: () => undefined })
  .hook("preAction", refuseNonUtf8Folder);

withConfig(
  program.command("train").description("train, validate, and write a snapshot after each epoch"),
  "./data/checkpoints",
  "videos a step, in training and validation (default: the config's)",
  logBySteps(),
)
  .option("--learning-rate <rate>", "learning rate at the start (default: the config's)")
  .option("--epoch <epochs>", "epochs to train; 0 for the config's (default: the config's)")
  .option(
    "--on-nan <policy>",
    "a loss that is NaN or infinite: stop, when a line of the log looks at it; skip-batch: look at each step, leave the batch out of weights, moments and statistics (it counts as a step), and stop after 10 in a row. Both list the batches in nan_batches.json (default: the config's)",
  )
  .option("--valid-interval <epochs>", "epochs from one validation to the next; 0 for none", integer(0), 1)
  .addOption(
    new Option("--pretrain <weights>", "start over from these weights; what is missing or of another shape starts afresh")
      .argParser(path)
      .conflicts("resume"),
  )
  .option("--save-interval <every>", "snapshot inside epochs too: every so many steps (500), or minutes (30m), seconds, hours", interval)
  .option("--keep <snapshots>", "remove all snapshots but the newest so many, and best (default: none is removed)", integer(1))
  .option(
    "--resume [weights]",
    "go on from this snapshot, or this checkpoint of Paddle's, where it stopped; without a path, from the newest good snapshot in --save-dir",
    path,
  )
  .option("--precision <precision>", "of matrix products: float32, or tf32 on a GPU (default: the config's)")
  .option("--resume-step <steps>", "steps that Paddle's checkpoint has taken, where it does not tell", integer(0))
  .option("--overwrite", "replace another run's snapshots in --save-dir, and a config.yaml or best that train did not write")
  .option(
    "--fix-random-seed [choice]",
    "True: the seed is the config's TRAIN.seed; a number: that one; False: the clock draws one (default: True)",
  )
  .action(async (flags: TrainFlags) => {
    const { runTrain } = await import("./commands/train.js");
    process.exitCode = await runTrain(flags);
  });

withWeights(
  withResume(
    withConfig(
      program.command("eval").description("measure weights on labelled videos: Hit@1, PERR, GAP, MAP"),
      "./data/evaluate_results",
      "videos a step (default: the config's)",
      logByTime(),
    ),
  ),
  "weights to measure",
)
  .option(
    "--predictions [formats]",
    "write the predictions that the metrics were taken from, too: pickle, csv, jsonl (bare: pickle)",
    resultFormats,
  )
  .option("--labels <file>", LABELS, path)
  .action(async (flags: EvalFlags) => {
    const { runEval } = await import("./commands/eval.js");
    process.exitCode = await runEval(flags);
  });

withWeights(
  withResume(
    withConfig(
      program.command("infer").description("write the likeliest classes of each video"),
      "./data/predict_results",
      "videos per batch (default: 32, fewer if memory is short)",
      logByTime(),
    ),
  ),
  "weights to use",
)
  .option("--infer-topk <classes>", "classes a video, at most; the likeliest first", integer(1), 20)
  .addOption(formatOption())
  .option("--labels <file>", LABELS, path)
  .action(async (flags: InferFlags) => {
    const { runInfer } = await import("./commands/infer.js");
    process.exitCode = await runInfer(flags);
  });

program
  .command("export")
  .description("write weights in another format: for Paddle, ONNX Runtime, numpy, or whatever reads safetensors")
  .option("--weights <path>", `weights to export: ${WEIGHTS}`, path)
  .addOption(
    new Option("--format <format>", "what to write")
      .choices(["pdparams", "paddle-vars", "safetensors", "npz", "onnx"])
      .makeOptionMandatory(),
  )
  .requiredOption("--out <path>", "the file; for paddle-vars the directory, for pdparams the prefix of .pdparams and .pdopt", path)
  .option("--overwrite", "replace existing files")
  .option("--config <file>", "YAML file whose section MODEL fits the weights (default: the weights' own)", path)
  .option("--set <SECTION.key=value>", "override any key of the config, like MODEL.drop_rate for onnx; may be repeated", gather)
  .action(async (flags: ExportFlags) => {
    const { runExport } = await import("./commands/export.js");
    process.exitCode = await runExport(flags);
  });

program
  .command("ensemble")
  .description("average result files (pickle, csv or jsonl) of the same videos; with labelled shards, measure the averages")
  .argument("<files...>", "result files of infer, or of other tools in the same formats", paths)
  .option("--weights <shares>", "what each file counts, as 0.7,0.3; what matters is its share of the sum (default: all the same)", shares)
  .option("--infer-topk <classes>", "classes a video, at most; the likeliest first", integer(1), 20)
  .addOption(formatOption())
  .option("--labels <file>", LABELS, path)
  .option("--save-dir <dir>", "where results and the log go", path, "./data/ensemble_results")
  .addOption(overwriteOption())
  .option("--filelist <list>", "labelled shards of the same videos (a list, - or a glob, as for eval), to measure the averages on", path)
  .option("--config <file>", "YAML file whose MODEL says how those shards are to be read (default: YouTube-8M's)", path)
  .option("--set <SECTION.key=value>", "override any key of that config; may be repeated", gather)
  .action(async (files: readonly string[], flags: EnsembleFlags) => {
    const { runEnsemble } = await import("./commands/ensemble.js");
    process.exitCode = await runEnsemble(files, flags);
  });

program
  .command("digits")
  .description("write shards in YouTube-8M's format whose videos show handwritten digits, to try things on")
  .requiredOption("--out <dir>", "where the shards and their lists go", path)
  .option("--train-videos <count>", "videos to train on", integer(1), 3000)
  .option("--validate-videos <count>", "videos to validate on", integer(1), 500)
  .option("--seed <seed>", "the same seed writes the same videos", integer(0, 2 ** 32 - 1), 0)
  .option("--overwrite", "replace existing shards and lists")
  .action(async (flags: DigitsFlags) => {
    const { runDigits } = await import("./commands/digits.js");
    process.exitCode = await runDigits(flags);
  });

program
  .command("convert")
  .description(
    "convert shards to PaddleVideo's pickles and back, or features of your own (MediaPipe's, floats in TFRecords, .npy) to shards; run again, it goes on where it stopped",
  )
  .addOption(new Option("--to <format>", "what the shards become").choices(["tfrecord", "pkl"]).makeOptionMandatory())
  .requiredOption("--out <dir>", "where the shards, their list and the log go", path)
  .option(
    "--filelist <list...>",
    "shards to convert, TFRecords, pickles or MediaPipe's features.pb: a file that lists them, a glob, or the shards",
    fileLists,
  )
  .addOption(
    new Option("--feature-names <names>", "names of the features in TFRecords that are read")
      .argParser(twoNames)
      .default(["rgb", "audio"], "rgb,audio"),
  )
  .addOption(
    new Option(
      "--feature-dtype <type>",
      "with --filelist: type of the values in a TFRecord's frames of bytes; floats (little-endian) are quantised, and so are lists of floats without this flag",
    ).choices(["uint8", "float16", "float32"]),
  )
  .option("--csv <file>", "instead of shards: a table of your own videos with the columns id and labels (class indices)", path)
  .option("--rgb <pattern>", "with --csv: .npy or .npz files of the first feature, {id} standing for each video's id", path)
  .option("--audio <pattern>", "with --csv: the same for the second feature; one of the two may be left out", path)
  .addOption(
    new Option("--rgb-range <range>", "float values that become the bytes 0 and 255, as in YouTube-8M")
      .argParser(range)
      .default([-2, 2], "-2..2"),
  )
  .addOption(new Option("--audio-range <range>", "the same for the second feature").argParser(range).default([-2, 2], "-2..2"))
  .option("--videos-per-shard <videos>", "with --csv: videos in a shard", integer(1), 250)
  .option("--max-record-bytes <size>", MAX_RECORD_BYTES, recordLimit)
  .option("--max-frames <frames>", "nframes of a pickle at most, as in tf2pkl.py", integer(1), 300)
  .addOption(
    new Option("--workers <threads>", "threads, each with a shard of its own")
      .argParser(integer(1, 256))
      .default(availableParallelism(), "one for each processor"),
  )
  .option("--overwrite", "replace shards and a list that convert did not write")
  .action(async (flags: ConvertFlags) => {
    const { runConvert } = await import("./commands/convert.js");
    process.exitCode = await runConvert(flags);
  });

program
  .command("verify")
  .description("check every record of every shard: checksums, features, labels, ids that come twice; exit code 1 where something is wrong")
  .argument("<list...>", "file that lists the shards (- is standard input), a glob that matches them, or the shards", fileLists)
  .option("--config <file>", "YAML file whose section MODEL says what videos look like (default: YouTube-8M's)", path)
  .option("--set <MODEL.key=value>", "override a key of that section; may be repeated", gather)
  .option("--max-record-bytes <size>", MAX_RECORD_BYTES)
  .option("--require-labels", "a video without a label is a problem too")
  .option("--readers <threads>", "threads that check shards (default: as many as there are processors)", integer(1, 64))
  .option("--json", "print the whole report as JSON")
  .action(async (list: FileList, flags: VerifyFlags) => {
    const { runVerify } = await import("./commands/verify.js");
    process.exitCode = await runVerify(list, flags);
  });

program
  .command("inspect")
  .description("show what a shard holds (records, IDs, frames, labels, features), or weights (step, epoch, classes, sizes)")
  .argument("<path>", "a shard, a snapshot or other weights", path)
  .option("--max-record-bytes <size>", MAX_RECORD_BYTES, recordLimit)
  .option("--json", "print it as JSON")
  .action(async (shard: string, flags: InspectFlags) => {
    const { runInspect } = await import("./commands/inspect.js");
    process.exitCode = await runInspect(shard, flags);
  });

program
  .command("setup")
  .description("fetch TensorFlow's library and compile the kernels: once after installing, again after an update or on another processor")
  .addOption(
    new Option("--device <device>", "build of TensorFlow (default: gpu if there is an NVIDIA driver, else cpu)").choices(["cpu", "gpu"]),
  )
  .action(async (flags: SetupFlags) => {
    const { runSetup } = await import("./commands/setup.js");
    process.exitCode = await runSetup(flags);
  });

program.addHelpText("after", describeCommandAliases());
for (const command of program.commands) command.addHelpText("after", describeFlagAliases(flagsOfCommand(command)));

/** Runs the command in process.argv, then exits the process. */
export async function main(): Promise<never> {
  return leave(await runProcess(program, process.argv));
}
