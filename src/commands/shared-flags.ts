import { type Command, Option } from "commander";
import { fileLists, gather, integer, interval, path, resultFormats } from "./options.js";

const PADDLE = "Flags are PaddleVideo's; underscores serve as dashes (--batch_size), and so do Python's True and False.";

/** Help text: the values of `--weights`. */
export const WEIGHTS =
  "a snapshot, Paddle's variables (a directory, or a .tar.gz of it), .pdparams, .safetensors, .npz (default: the published ones in ~/.paddle/weights)";

/** Help text of `--max-record-bytes`. */
export const MAX_RECORD_BYTES = "longest record of a shard that is read, like 512M; longer ones are errors (default: 256M)";

/** `--log-interval` of train, in steps as in PaddleVideo. */
export const logBySteps = (): Option =>
  new Option("--log-interval <steps>", "log every so many steps; 0 for never").argParser(integer(0)).default(10);

/** `--log-interval` of eval and infer, which log by time by default. */
export const logByTime = (): Option =>
  new Option("--log-interval <batches>", "log every so many batches; 0 for never (default: every 10 s)").argParser(integer(0));

/** Adds the flags that train, eval and infer share. */
export function withConfig(command: Command, saveDir: string, batch: string, logging: Option): Command {
  return command
    .option("--model-name <name>", "the model (default: the config's)")
    .option("--config <file>", "YAML file with the sections MODEL, TRAIN, VALID, TEST and INFER", path)
    .option("--batch-size <videos>", batch)
    .option(
      "--use-gpu [choice]",
      "True: the GPU, or an error that says why not; False: the CPU; auto: the GPU where one works (default: the config's)",
    )
    .option(
      "--on-corrupt <policy>",
      "bad bytes in shards: error; skip-record: go on without the record, or, where no next one can be found, the rest of its shard; skip-shard: without the rest of the shard. Labels or feature sizes other than the config's, missing files and files of another kind are errors in any case (default: the config's)",
    )
    .option("--max-record-bytes <size>", MAX_RECORD_BYTES)
    .option("--save-dir <dir>", "where results and the log go", path, saveDir)
    .addOption(logging)
    .option("--set <SECTION.key=value>", "override any key of the config, over all other flags; may be repeated", gather)
    .addHelpText("after", `\n${PADDLE}`);
}

/** Adds the flags of commands that run weights on shards. */
export function withWeights(command: Command, about: string): Command {
  return command
    .option("--weights <path>", `${about}: ${WEIGHTS}`, path)
    .option(
      "--filelist <list...>",
      "file that lists the shards (- is standard input), a glob that matches them, or the shards (default: the config's)",
      fileLists,
    )
    .option(
      "--precision <precision>",
      "of matrix products: float32; tf32 on a GPU; int16 or int8 with the features on the CPU (default: the config's)",
    );
}

/** Adds the flags of commands that save partial results when they are stopped. */
export function withResume(command: Command): Command {
  return command
    .option("--resume", "go on with what a stopped or killed run left in --save-dir; where there is nothing, start from the beginning")
    .option(
      "--save-interval <every>",
      "save what is done every so many batches (500), or seconds (90s), minutes, hours (default: 10s)",
      interval,
    )
    .addOption(overwriteOption());
}

/** `--overwrite` of commands that write results. */
export function overwriteOption(): Option {
  return new Option("--overwrite", "replace files with the results' names that are not results of nextvlad");
}

/** Help text of `--labels`. */
export const LABELS = "names of the classes, for jsonl: YouTube-8M's vocabulary.csv, or a list with one a line";

/** `--format` of infer and ensemble. */
export function formatOption(): Option {
  const about = "formats of the results: pickle (PaddleVideo's), csv (Kaggle's), jsonl, or several: pickle,csv,jsonl";
  return new Option("--format <formats>", about).argParser(resultFormats).default(["pickle"], "pickle");
}
