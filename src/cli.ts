import { Command } from "commander";
import { describeVersions } from "./base/package.js";
import { assertUtf8WorkingDirectory } from "./base/paths.js";
import { wrapLine } from "./base/wrap.js";
import { describeCommandAliases, describeFlagAliases } from "./commands/arguments.js";
import { fileLists, path, paths, SHELLS, shell } from "./commands/flag-values.js";
import { addFlags, type CommandName, type FlagsOf } from "./commands/flags.js";
import { describeExamples } from "./commands/help.js";
import { columnsOf, terminalColumns } from "./commands/output.js";
import { flagsOfCommand, leave, runProcess } from "./commands/process.js";
import { FORMAT_NAMES } from "./results/result-formats.js";

/** The commands. Their flags come from the table in commands/flags.ts. */
export const program = new Command("nextvlad")
  .description("NeXtVLAD video classification on YouTube-8M: train, evaluate and infer straight from TFRecord shards")
  .version(
    wrapLine(describeVersions(), columnsOf(process.stdout)).join("\n"),
    "-v, --version",
    "print the versions of nextvlad and of what it runs on",
  )
  .exitOverride()
  .configureOutput({ outputError: () => undefined })
  // In narrower columns, the terminal would break words.
  .configureHelp({ minWidthToWrap: 20 })
  .hook("preAction", assertUtf8WorkingDirectory);

/** A positional argument. */
interface Argument<A> {
  readonly name: string;
  readonly help: string;
  parse(text: string, before?: A): A;
}

/** Adds a command. `run` loads the command's code, so that help and usage errors stay fast, and returns the exit code. */
function define<C extends CommandName, A = undefined>(
  name: C,
  description: string,
  run: (flags: FlagsOf<C>, argument: A) => Promise<number>,
  argument?: Argument<A>,
): void {
  const command = program.command(name).description(description);
  if (argument !== undefined) command.argument(argument.name, argument.help, argument.parse);
  addFlags(command, name);
  command.action(async () => {
    process.exitCode = await run(command.opts(), command.processedArgs[0]);
  });
}

/** Loads a command's code while TensorFlow's library loads in a thread. */
async function withTensorflow<T>(load: () => Promise<T>): Promise<T> {
  const { startEarly } = await import("./commands/early-start.js");
  startEarly();
  return load();
}

define("train", "train and validate; write a snapshot after each epoch", async (flags) =>
  (await withTensorflow(() => import("./commands/train.js"))).runTrain(flags),
);

define("eval", "evaluate weights on labeled videos: Hit@1, PERR, GAP, MAP", async (flags) =>
  (await withTensorflow(() => import("./commands/eval.js"))).runEval(flags),
);

define("infer", "predict the classes of each video", async (flags) =>
  (await withTensorflow(() => import("./commands/infer.js"))).runInfer(flags),
);

define("export", "write weights for Paddle, ONNX Runtime, NumPy or safetensors", async (flags) =>
  (await import("./commands/export.js")).runExport(flags),
);

define(
  "average",
  "average the weights of several snapshots of one model, as safetensors",
  async (flags, weights) => (await import("./commands/average.js")).runAverage(weights, flags),
  { name: "<weights...>", help: "snapshots, or weights in another format; one listed twice counts twice", parse: paths },
);

define(
  "ensemble",
  "average result files of the same videos; with labeled shards, compute the metrics of the averages",
  async (flags, files) => (await import("./commands/ensemble.js")).runEnsemble(files, flags),
  { name: "<files...>", help: `result files (${FORMAT_NAMES}) of infer or of other tools`, parse: paths },
);

define("digits", "write small shards of handwritten digits in YouTube-8M's format", async (flags) =>
  (await import("./commands/digits.js")).runDigits(flags),
);

define("convert", "convert shards to PaddleVideo's pickles and back, or your own features to shards; resumes if run again", async (flags) =>
  (await import("./commands/convert.js")).runConvert(flags),
);

define(
  "verify",
  "check every record of every shard; exit code 1 if there are problems",
  async (flags, list) => (await import("./commands/verify.js")).runVerify(list, flags),
  { name: "<list...>", help: "shards: a file that lists them (- for stdin), a glob, or paths", parse: fileLists },
);

define(
  "inspect",
  "show the contents of a shard (records, IDs, labels, frames) or of weights (step, epoch, sizes)",
  async (flags, file) => (await import("./commands/inspect.js")).runInspect(file, flags),
  { name: "<path>", help: "a shard, a snapshot or other weights", parse: path },
);

define(
  "report",
  "write an HTML page about training runs and evaluations: curves, metrics, classes, mistakes",
  async (flags, directories) => (await import("./commands/report.js")).runReport(directories, flags),
  { name: "<dirs...>", help: "the --save-dir of train or eval; several are compared", parse: paths },
);

define(
  "doctor",
  "check whether this machine can train, on which device and how fast; exit code 1 if it cannot",
  async (flags, shard) => (await import("./commands/doctor.js")).runDoctor(shard, flags),
  { name: "[shard]", help: "a shard to read, to measure how fast", parse: path },
);

define(
  "completion",
  "print a script that completes commands, flags and values in a shell",
  async (_, shell) => (await import("./commands/completion.js")).runCompletion(shell, program),
  { name: "<shell>", help: `the shell: ${SHELLS.join(", ")}`, parse: shell },
);

define("setup", "download TensorFlow and compile the kernels; run it after installing and after an update", async (flags) =>
  (await import("./commands/setup.js")).runSetup(flags),
);

/** Returns text for the end of the help, wrapped as the help is. */
function wrapped(text: string): () => string {
  return () => program.createHelp().boxWrap(text, terminalColumns());
}

program.addHelpText("after", wrapped(describeCommandAliases()));
for (const command of program.commands) {
  if (["train", "eval", "infer"].includes(command.name())) {
    const spellings = "\nPaddleVideo's spellings work too: --batch_size for --batch-size, True and False in any case.";
    command.addHelpText("after", wrapped(spellings));
  }
  command.addHelpText("after", wrapped(describeFlagAliases(flagsOfCommand(command))));
  command.addHelpText("after", () => describeExamples(command.name() as CommandName, terminalColumns()));
}

/** Runs the command in process.argv, then exits the process. */
export async function main(): Promise<never> {
  return leave(await runProcess(program, process.argv));
}
