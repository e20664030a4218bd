import { type Attempt, BAD_USAGE, DONE } from "../attempt.js";
import { CONFIG, LIST, RESULTS, SHARD, SNAPSHOT } from "../base.js";
import { BIDI, ESCAPES } from "../bytes.js";

/** Values passed where a number is expected. */
const VALUES: readonly string[] = [
  "NaN",
  "1e308",
  "-0",
  "0x10",
  "9".repeat(400),
  "-1",
  "1e3",
  "",
  " ",
  "1_000",
  "Infinity",
  "\u0661\u0662",
  ESCAPES,
  BIDI,
  "x".repeat(100_000),
  "5.5",
  "2147483648",
];

/** Some values validly request a thousand epochs, so training is limited to a few steps. */
const TRAIN = ["train", "--config", CONFIG, "--save-dir", "out", "--set", "TRAIN.max_iter=5"];
const RUN = ["--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", "out"];
const CONVERT = ["convert", "--to", "pkl", "--filelist", LIST, "--out", "out"];
const DIGITS = ["digits", "--out", "out", "--validate-videos", "1"];

/** Flags that take numbers, with their commands. */
const NUMBERS: readonly (readonly [command: readonly string[], flag: string])[] = [
  ...[
    "--batch-size",
    "--learning-rate",
    "--epoch",
    "--valid-interval",
    "--early-stop",
    "--limit-videos",
    "--save-interval",
    "--keep",
    "--log-interval",
    "--histogram-interval",
    "--fix-random-seed",
    "--accumulate",
    "--devices",
  ].map((flag) => [TRAIN, flag] as const),
  ...["--batch-size", "--save-interval", "--log-interval"].map((flag) => [["eval", ...RUN], flag] as const),
  ...["--batch-size", "--infer-topk"].map((flag) => [["infer", ...RUN], flag] as const),
  ...["--workers", "--max-frames", "--rgb-range", "--feature-names"].map((flag) => [CONVERT, flag] as const),
  ...["--train-videos", "--seed"].map((flag) => [DIGITS, flag] as const),
  [["verify", SHARD, "--config", CONFIG], "--readers"],
  [["ensemble", `${RESULTS}.csv`, "--save-dir", "out"], "--infer-topk"],
];
/** Each flag is tested with every fourth value, and each value with every fourth flag. */
const STRIDE = 4;

const numberAttempts = NUMBERS.flatMap(([command, flag], i) =>
  VALUES.flatMap((value, j): readonly Attempt[] => {
    if ((i + j) % STRIDE !== 0) return [];
    return [{ kind: "flag", name: `${command[0]} ${flag}, value ${j + 1}`, args: [...command, `${flag}=${value}`] }];
  }),
);

/** Unusual arguments, by description. */
const ODD: Readonly<Record<string, readonly string[]>> = {
  "a command with escapes": [ESCAPES],
  "a command of 1 MB less than the system allows": ["x".repeat(100_000)],
  "a command __proto__": ["__proto__"],
  "a command constructor": ["constructor"],
  "a flag with escapes": ["verify", `--${ESCAPES}`],
  "a flag __proto__": ["verify", "--__proto__=1"],
  "a flag of 100,000 characters": ["verify", `--${"x".repeat(100_000)}`],
  "5,000 flags": ["verify", ...Array.from({ length: 5000 }, (_, i) => `--f${i}`)],
  "5,000 times --set": ["verify", SHARD, ...Array.from({ length: 5000 }, () => ["--set", "MODEL.topk=1"]).flat()],
  "an empty argument": [""],
  "only --": ["--"],
  "-": ["-"],
  "a value that is a flag": ["verify", SHARD, "--config", "--json"],
  "too many arguments with escapes": ["inspect", SHARD, ESCAPES, ESCAPES],
  "an argument that is missing": ["inspect"],
  "a path with escapes: inspect": ["inspect", ESCAPES],
  "a path with bidirectional marks: inspect": ["inspect", BIDI],
  "a path with escapes: verify": ["verify", ESCAPES],
  "a path with escapes: weights": ["export", "--weights", ESCAPES, "--format", "npz", "--out", "out/x"],
  "a path with escapes: config": ["train", "--config", ESCAPES, "--save-dir", "out"],
  "a path with escapes: labels": ["ensemble", `${RESULTS}.csv`, "--labels", ESCAPES, "--format", "jsonl", "--save-dir", "out"],
  "a path with escapes: csv": ["convert", "--to", "pkl", "--csv", ESCAPES, "--rgb", "{id}.npy", "--out", "out"],
  "a path with escapes: save-dir": ["infer", "--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", `out/${ESCAPES.replaceAll("/", "")}`],
  "a path with escapes: resume": [...TRAIN, "--resume", ESCAPES],
  "a path with escapes: ensemble": ["ensemble", ESCAPES, "--save-dir", "out"],
  "a path with escapes: digits": ["digits", "--out", `../canary/file/${ESCAPES}`],
  "a URL with escapes": ["inspect", `https://x/${ESCAPES}`],
  "a path of 100,000 characters": ["inspect", "x/".repeat(50_000)],
  "a device for set-up": ["setup", "--device", ESCAPES],
  "an argument for set-up": ["setup", ESCAPES],
  "a policy with escapes": [...TRAIN, "--on-nan", ESCAPES],
  "a format with escapes": ["infer", ...RUN, "--format", ESCAPES],
  "another tool's flag": ["train", `--model_dir=${ESCAPES}`],
};

/** Valid commands, which must exit with 0. */
const HARMLESS: readonly (readonly string[])[] = [
  ["version"],
  ["--version"],
  ["--help"],
  ...["train", "eval", "infer", "export", "ensemble", "digits", "convert", "verify", "inspect", "doctor", "setup"].map((name) => [
    name,
    "--help",
  ]),
  ["inspect", SHARD, "--json"],
  ["verify", LIST, "--config", CONFIG, "--json"],
];

export const flagAttempts: readonly Attempt[] = [
  ...numberAttempts,
  ...Object.entries(ODD).map(([name, args]): Attempt => ({ kind: "flag", name, args })),
  ...HARMLESS.map((args): Attempt => ({ kind: "flag", name: args.join(" "), args, exits: DONE })),
  { kind: "flag", name: "no arguments", args: [], exits: BAD_USAGE },
];
