import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { temporaryFolder } from "./helpers/files.js";
import { compiled, repository, runInTerminal, runNextvlad, runProgram, spawnNextvlad } from "./helpers/nextvlad.js";

const DIGITS = join(repository, "configs/digits.yaml");

/** Runs `nextvlad`, and expects an error in the CLI's layout and nothing on stdout; returns its message. */
async function failure(args: readonly string[], exitCode: number): Promise<string> {
  const ended = await runNextvlad(args);
  assert.deepEqual([ended.exitCode, ended.stdout], [exitCode, ""], ended.stderr);
  assert.match(ended.stderr, /^error\[[A-Z_]+\]: [^\n]+\n(?: {2}--> [^\n]+\n)?(?: {2}\d+\. [^\n]+\n)*(?: {2}help: [^\n]+\n)?$/);
  return ended.error;
}

/** The scripts that a run loaded: Node's coverage lists them all. */
async function loadedScripts(context: Parameters<typeof temporaryFolder>[0], args: readonly string[]): Promise<string[]> {
  const folder = temporaryFolder(context);
  await spawnNextvlad(args, { env: { ...process.env, NODE_V8_COVERAGE: folder } });
  const urls = readdirSync(folder).flatMap((name) => {
    const { result } = JSON.parse(readFileSync(join(folder, name), "utf8")) as { result: { url: string }[] };
    return result.map(({ url }) => url);
  });
  assert.ok(urls.some((url) => url.endsWith("/src/cli.js")));
  return urls;
}

describe("help, as npm run docs writes it to test/commands/help,", { concurrency: 2 }, () => {
  for (const command of [
    "nextvlad",
    "train",
    "eval",
    "infer",
    "export",
    "average",
    "ensemble",
    "digits",
    "convert",
    "verify",
    "inspect",
    "report",
    "doctor",
    "completion",
    "setup",
  ]) {
    test(`of ${command}`, async () => {
      const ended = await runNextvlad(command === "nextvlad" ? ["--help"] : [command, "--help"]);
      assert.deepEqual([ended.exitCode, ended.stderr], [0, ""]);
      assert.equal(ended.stdout, readFileSync(join(repository, `test/commands/help/${command}.txt`), "utf8"));
    });
  }

  test("the version is the package's", async () => {
    const { version } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as { version: string };
    for (const flag of ["--version", "-v", "version"]) {
      const ended = await spawnNextvlad([flag]);
      assert.deepEqual([ended.exitCode, ended.stderr], [0, ""]);
      const line = `nextvlad ${version} (tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, Node.js ${process.versions.node})\n`;
      assert.equal(ended.stdout, line);
    }
  });

  test("the version is wrapped at the width of a terminal", async () => {
    const { exitCode, stdout } = await runInTerminal(["--version"], 60);
    assert.equal(exitCode, 0);
    const lines = stdout.trimEnd().split("\n");
    assert.ok(lines.length === 2 && lines.every((line) => line.length <= 60), stdout);
    assert.match(lines.join(" "), /^nextvlad .*, TensorFlow .*, +Node\.js [\d.]+\)$/);
  });

  test("is printed on stderr if no command is given, with exit code 2", async () => {
    const ended = await spawnNextvlad([]);
    assert.deepEqual([ended.exitCode, ended.stdout], [2, ""]);
    assert.match(ended.stderr, /^Usage: nextvlad \[options\] \[command\]\n/);
  });
});

describe("what is loaded", { concurrency: 2 }, () => {
  const cases: readonly [string, readonly string[], RegExp][] = [
    ["--help loads only commander", ["--help"], /node_modules\/(?!commander\/)/],
    ["so does the help of a command", ["train", "--help"], /node_modules\/(?!commander\/)/],
    ["so does a mistyped flag", ["train", "--batch-sise", "8"], /node_modules\/(?!commander\/)/],
    [
      "an invalid config loads neither TensorFlow nor the log",
      ["train", "--config", DIGITS, "--set", "TRAIN.epoc=1"],
      /node_modules\/(@tensorflow|pino)\//,
    ],
    ["so does an invalid save-dir", ["train", "--config", DIGITS, "--save-dir", join(DIGITS, "x")], /node_modules\/(@tensorflow|pino)\//],
  ];
  for (const [name, args, heavy] of cases) {
    test(name, async (context) => {
      const urls = await loadedScripts(context, args);
      assert.deepEqual(
        urls.filter((url) => heavy.test(url)),
        [],
      );
    });
  }
});

describe("invalid usage has exit code 2", { concurrency: 2 }, () => {
  const cases: readonly [readonly string[], RegExp][] = [
    [["trian"], /^trian: unknown command\. Did you mean train\? see nextvlad --help\.$/],
    [["train", "--batchsize", "8"], /^--batchsize: unknown flag\. Did you mean --batch-size\? see nextvlad train --help\.$/],
    [["infer", "--weights", "x", "--infer_top", "3"], /^--infer-top: unknown flag\. Did you mean --infer-topk\?/],
    [
      ["train", "--log-interval", "-1"],
      /^--log-interval: invalid value \(expected an integer from 0 to 2147483647, found "-1"\)\. See nextvlad train --help\.$/,
    ],
    [["infer", "--weights", "x", "--infer-topk=0"], /^--infer-topk: invalid value \(expected an integer from 1 to 2147483647, found "0"\)/],
    [
      ["infer", "--weights", "x", "--format", "csv,xml"],
      /^--format: invalid value \(expected pickle, csv or jsonl, or several of them separated by commas, each once, found "csv,xml"\)/,
    ],
    [["infer", "--weights", "x", "--format", "csv,csv"], /^--format: invalid value .*found "csv,csv"\)/],
    [
      ["infer", "--weights", "x", "--labels", "y"],
      /^--labels: only csv and jsonl results contain class names \(found pickle\)\. Add csv or jsonl/,
    ],
    [["ensemble"], /^missing argument \(expected <files>\)\. See nextvlad ensemble --help\.$/],
    [
      ["ensemble", "a", "--weights", "0,0"],
      /^--weights: invalid value \(expected numbers of at least 0, not all 0, separated by commas, found "0,0"\)/,
    ],
    [["ensemble", "a", "--weights", "1,,1"], /^--weights: invalid value .*found "1,,1"\)/],
    [
      ["ensemble", "a", "--weights", "1,1"],
      /^--weights: the number of weights differs from the number of files \(expected 1 weights, found 2\)\./,
    ],
    [["ensemble", "a", "--set", "MODEL.num_classes=3"], /^--set: the flag requires --filelist\. Pass/],
    [["digits", "--out", "x", "--seed", "1.5"], /^--seed: invalid value \(expected an integer from 0 to 4294967295, found "1\.5"\)/],
    [["digits"], /^--out: required flag is missing\. See nextvlad digits --help\.$/],
    [["train", "--config"], /^--config: missing value \(expected <file>\)/],
    [["train", "more"], /^too many arguments \(expected 0, found 1\)\. See nextvlad train --help\.$/],
    [["train", "--pretrain", "a", "--resume", "b"], /^--pretrain: cannot be used with --resume\. See nextvlad train --help\.$/],
    [["train"], /^--config: a config is required\. Pass one, such as --config configs\/nextvlad\.yaml\.$/],
    [
      ["export", "--format", "tf", "--out", "x"],
      /^--format: invalid value \(expected pdparams, paddle-vars, safetensors, npz or onnx, found "tf"\)/,
    ],
    [["convert", "--to", "npy"], /^--to: invalid value \(expected tfrecord or pkl, found "npy"\)/],
    [
      ["eval", "--weights", "s3://bucket/best"],
      /^s3:\/\/bucket\/best: URLs are not supported, only local files\. Copy the files to a local disk \(aws s3 cp\)/,
    ],
    [
      ["train", "--config", DIGITS, "--set", "TRAIN.filelist=gs://b/*"],
      /^--set TRAIN\.filelist: URLs are not supported, .*found "gs:\/\/b\/\*"\)\. Copy .*gcloud/,
    ],
    [
      ["verify", "https://host/train.list"],
      /^https:\/\/host\/train\.list: URLs are not supported, .* Download it \(curl -O\), and pass the local path\.$/,
    ],
    [["ensemble", "a.pkl", "file:///data/b%20c.pkl"], /: URLs are not supported, .* Write only the path: \/data\/b c\.pkl\.$/],
    [["inspect", "hdfs://host/x"], /^hdfs:\/\/host\/x: URLs are not supported/],
    [["convert", "--to", "pkl", "--out", "gs://b/out"], /^gs:\/\/b\/out: URLs are not supported/],
    [["train", "--save-dir", ""], /^--save-dir: invalid value \(expected a path, found ""\)/],
    [["verify", ""], /^<list>: invalid value \(expected a path, found ""\)/],
    [["ensemble", ""], /^<files>: invalid value \(expected .*, found ""\)/],
    [["train", "--enable_ce"], /^--enable-ce: unknown flag\. Use --fix-random-seed True/],
    [["train", "--train_data_pattern=x"], /^--train-data-pattern: unknown flag\. Use --set TRAIN\.filelist=/],
    [["infer", "--video_path=x"], /^--video-path: unknown flag\. Use --filelist/],
  ];
  for (const [args, message] of cases) test(args.join(" "), async () => assert.match(await failure(args, 2), message));
});

describe("invalid configs have exit code 2", { concurrency: 2 }, () => {
  test("an unknown key in a file: the error names the file and the closest key", async (context) => {
    const file = join(temporaryFolder(context), "own.yaml");
    writeFileSync(file, "TRAIN:\n  batch_sise: 8\n");
    assert.equal(await failure(["train", "--config", file], 2), `${file}, TRAIN.batch_sise: unknown key. Did you mean TRAIN.batch_size?`);
  });

  test("flags in PaddleVideo's spelling set their keys; one error lists all invalid values", async () => {
    const args = [
      "train",
      "--config",
      DIGITS,
      "--model_name=X",
      "--batch_size",
      "0",
      "--learning_rate=-1",
      "--epoch",
      "x",
      "--use_gpu",
      "2",
    ];
    const message = await failure([...args, "--fix_random_seed", "-3", "--set", "TRAIN.l2_penalty=-1"], 2);
    assert.match(message, /^the config has 7 problems: /);
    for (const flag of [
      "--model-name",
      "--batch-size",
      "--learning-rate",
      "--epoch",
      "--use-gpu",
      "--fix-random-seed",
      "--set TRAIN.l2_penalty",
    ]) {
      // Alone, or in a list of those that should be the same.
      assert.match(message, new RegExp(`(\\) ${flag}: invalid value \\(expected |[:;] ${flag} \\(found )`));
    }
  });

  test("a missing file has exit code 1; ~ is the home directory", async () => {
    assert.equal(await failure(["train", "-c~/nowhere.yaml"], 1), `${join(homedir(), "nowhere.yaml")}: file not found. Check the path.`);
    assert.equal(await failure(["train", "--config", "nowhere.yaml"], 1), "nowhere.yaml: file not found. Check the path.");
  });
});

describe("flags override the config", { concurrency: 2 }, () => {
  /** Returns the logged TRAIN section of a training run that cannot find its shards. */
  async function trainSection(context: Parameters<typeof temporaryFolder>[0], flags: readonly string[]): Promise<Record<string, unknown>> {
    const folder = temporaryFolder(context);
    // A new log would be removed.
    writeFileSync(join(folder, "train.log.jsonl"), "{}\n");
    const args = ["train", "--config", DIGITS, "--save-dir", folder, "--set", "TRAIN.filelist=nowhere.list", ...flags];
    const ended = await runNextvlad(args);
    assert.equal(ended.exitCode, 1, ended.stderr);
    assert.match(ended.error, /nowhere\.list[:;] /);
    const lines = readFileSync(join(folder, "train.log.jsonl"), "utf8").split("\n");
    return (JSON.parse(lines.find((line) => line.includes('"TRAIN":')) ?? "{}") as { TRAIN: Record<string, unknown> }).TRAIN;
  }

  test("Python's True and False, the bare flag and auto", async (context) => {
    const values = await Promise.all(
      [["--use_gpu", "False"], ["--use-gpu=True"], ["--use-gpu"], ["--use-gpu", "auto"], []].map(
        async (flags) => (await trainSection(context, flags)).use_gpu,
      ),
    );
    assert.deepEqual(values, [false, true, true, "auto", "auto"]);
  });

  test("--set overrides flags, flags override the file; --epoch 0 means the file's", async (context) => {
    const flags = ["--batch-size", "8", "--learning-rate", "1e-4", "--epoch", "0", "--set", "TRAIN.batch_size=4"];
    const { batch_size, learning_rate, epoch } = await trainSection(context, flags);
    assert.deepEqual([batch_size, learning_rate, epoch], [4, 1e-4, 6]);
  });

  test("--fix-random-seed: True keeps the config's seed, a number replaces it, False draws one from the clock", async (context) => {
    const seed = async (...flags: string[]): Promise<unknown> => (await trainSection(context, ["--set", "TRAIN.epoch=1", ...flags])).seed;
    assert.deepEqual(
      [await seed("--fix-random-seed"), await seed("--fix_random_seed", "True"), await seed("--fix-random-seed", "7")],
      [0, 0, 7],
    );
    const drawn = [await seed("--fix-random-seed", "False"), await seed("--fix_random_seed=False")];
    assert.ok(drawn.every((value) => Number.isInteger(value) && value !== 0) && drawn[0] !== drawn[1], String(drawn));
  });
});

test("a reader of stdout or stderr that exits does not end the command", async (context) => {
  const folder = temporaryFolder(context);
  const args = ["digits", "--out", folder, "--train-videos", "1", "--validate-videos", "1"];
  const deaf = 'set -o pipefail; "$@" 2>&1 | (exec <&-; sleep 0.5)';
  const ended = await runProgram("bash", ["-c", deaf, "bash", process.execPath, compiled("nextvlad.cjs"), ...args]);
  assert.deepEqual([ended.exitCode, ended.stderr], [0, ""]);
  assert.ok(existsSync(join(folder, "validate.list")));
});

describe("an unexpected error", () => {
  const HELP = "  help: this is a bug in nextvlad; the log and NEXTVLAD_DEBUG=1 show the stack trace\n";
  const broken = 'globalThis.AbortController = class { constructor() { throw new TypeError("unforeseen\\nsecond line"); } };';
  const late = 'process.on("newListener", (name) => name === "uncaughtException" && setImmediate(() => { throw new TypeError("late"); }));';
  const run = (folder: string, preload: string, env: Record<string, string> = {}) => {
    const args = [
      "--import",
      `data:text/javascript,${encodeURIComponent(preload)}`,
      compiled("nextvlad.cjs"),
      "train",
      "--config",
      DIGITS,
      "--save-dir",
      folder,
    ];
    return runProgram(process.execPath, args, { env: { ...process.env, NEXTVLAD_DEBUG: "", ...env } });
  };

  test("has the code INTERNAL, and exit code 1", async (context) => {
    const ended = await run(temporaryFolder(context), broken);
    assert.equal(ended.exitCode, 1);
    assert.equal(ended.stderr, `error[INTERNAL]: unforeseen second line\n${HELP}`);
  });

  test("has a stack trace with NEXTVLAD_DEBUG=1", async (context) => {
    const ended = await run(temporaryFolder(context), broken, { NEXTVLAD_DEBUG: "1" });
    assert.equal(ended.exitCode, 1);
    assert.match(ended.stderr, /^error\[INTERNAL\]: unforeseen second line\nTypeError: unforeseen second line\n {4}at /);
  });

  test("has the same form if it is uncaught", async (context) => {
    const ended = await run(temporaryFolder(context), late);
    assert.equal(ended.exitCode, 1);
    assert.equal(ended.stderr, `error[INTERNAL]: late\n${HELP}`);
  });
});

test("a deleted working directory and an invalid HOME are errors without a stack trace", async (context) => {
  const gone = await runProgram("bash", [
    "-c",
    'cd "$1" && rmdir "$1" && exec "$2" "$3" verify x',
    "bash",
    temporaryFolder(context),
    process.execPath,
    compiled("nextvlad.cjs"),
  ]);
  const what = "the working directory was deleted\n  help: change to another directory";
  assert.deepEqual([gone.stderr, gone.exitCode], [`error[FILE_MISSING]: ${what}\n`, 1]);
  const long = await spawnNextvlad(["export", "--format", "npz", "--out", "x"], {
    env: { ...process.env, HOME: `/${"x".repeat(100_000)}` },
  });
  const why = "the home directory cannot be determined\n  --> HOME\n  help: set it to the path of your home directory";
  assert.deepEqual([long.stderr, long.exitCode], [`error[FILE_MISSING]: ${why}\n`, 1]);
});
