import { wrapCommand, wrapLine } from "../base/wrap.js";
import type { CommandName } from "./flags.js";

/** What the help of a command shows besides its flags. */
export interface CommandHelp {
  /** Two commands, each of which runs in a folder with digits (`nextvlad digits --out data/digits`) and, for others than the first ones, a trained model. */
  readonly examples: readonly [string, string];
  /** Pages in docs/ that explain more. */
  readonly pages: readonly string[];
}

export const COMMAND_HELP: Readonly<Record<CommandName, CommandHelp>> = {
  train: {
    examples: [
      "nextvlad train --config configs/digits.yaml",
      "nextvlad train --config configs/digits.yaml --resume --epoch 8 --save-dir data/longer",
    ],
    pages: ["snapshots.md", "config.md", "scale.md", "gpu.md"],
  },
  eval: {
    examples: [
      "nextvlad eval --weights data/checkpoints/best --filelist data/digits/validate.list",
      "nextvlad eval --weights data/checkpoints/best --filelist 'data/digits/validate*.tfrecord' --predictions csv",
    ],
    pages: ["results.md", "weights.md"],
  },
  infer: {
    examples: [
      "nextvlad infer --weights data/checkpoints/best --filelist data/digits/validate.list --format csv",
      "nextvlad infer --weights data/checkpoints/best --filelist data/digits/validate.list --format jsonl --infer-topk 3 --overwrite",
    ],
    pages: ["results.md", "weights.md", "data.md"],
  },
  export: {
    examples: [
      "nextvlad export --weights data/checkpoints/best --format pdparams --out data/exported",
      "nextvlad export --weights data/checkpoints/best --format onnx --out data/exported.onnx",
    ],
    pages: ["export.md"],
  },
  average: {
    examples: [
      "nextvlad average data/checkpoints/NEXTVLAD_epoch0 data/checkpoints/best --out data/average.safetensors",
      "nextvlad average data/checkpoints/NEXTVLAD_epoch* --out data/average.safetensors --overwrite",
    ],
    pages: ["weights.md"],
  },
  ensemble: {
    examples: [
      "nextvlad ensemble data/predict_results/NEXTVLAD_infer_result.csv data/predict_results/NEXTVLAD_infer_result.jsonl --format csv",
      "nextvlad ensemble data/predict_results/NEXTVLAD_infer_result.* --weights 0.7,0.3 --overwrite",
    ],
    pages: ["results.md"],
  },
  digits: {
    examples: ["nextvlad digits --out data/digits", "nextvlad digits --out data/few --train-videos 100 --validate-videos 20"],
    pages: ["data.md"],
  },
  convert: {
    examples: [
      "nextvlad convert --to pkl --filelist data/digits/validate.list --out data/pickles",
      "nextvlad convert --to tfrecord --filelist 'data/pickles/*.pkl' --out data/shards",
    ],
    pages: ["data.md", "own-features.md"],
  },
  verify: {
    examples: ["nextvlad verify data/digits/train.list", "nextvlad verify 'data/digits/*.tfrecord' --json"],
    pages: ["data.md", "errors.md"],
  },
  inspect: {
    examples: ["nextvlad inspect data/digits/train0000.tfrecord", "nextvlad inspect data/checkpoints/best --json"],
    pages: ["data.md", "weights.md"],
  },
  report: {
    examples: [
      "nextvlad report data/checkpoints --out data/report.html",
      "nextvlad report data/checkpoints data/evaluate_results --out data/report.html",
    ],
    pages: ["report.md"],
  },
  doctor: {
    examples: ["nextvlad doctor", "nextvlad doctor data/digits/train0000.tfrecord --json"],
    pages: ["install.md", "performance.md"],
  },
  completion: {
    examples: ["nextvlad completion bash > data/nextvlad.bash", "nextvlad completion fish > data/nextvlad.fish"],
    pages: ["install.md"],
  },
  setup: { examples: ["nextvlad setup", "nextvlad setup --device cpu"], pages: ["install.md", "gpu.md"] },
};

/** The groups of flags in the help. Each flag is in one of them. */
export const FLAG_GROUPS: Readonly<Record<string, readonly string[]>> = {
  "Config and weights": ["config", "set", "model-name", "weights", "resume", "resume-step", "pretrain"],
  Data: [
    ...[
      "filelist",
      "limit-videos",
      "segments",
      "segment-classes",
      "on-corrupt",
      "max-record-bytes",
      "require-labels",
      "train-videos",
      "validate-videos",
      "feature-names",
      "feature-dtype",
    ],
    ...["csv", "rgb", "audio", "rgb-range", "audio-range", "videos-per-shard", "max-frames"],
  ],
  Training: [
    ...[
      "smoke",
      "batch-size",
      "accumulate",
      "no-sync-bn",
      "epoch",
      "learning-rate",
      "fix-random-seed",
      "seed",
      "valid-interval",
      "early-stop",
      "on-nan",
    ],
  ],
  Output: [
    ...[
      "save-dir",
      "save-interval",
      "keep",
      "log-interval",
      "histogram-interval",
      "infer-topk",
      "full-ranking",
      "report",
      "predictions",
      "format",
      "labels",
      "out",
      "to",
      "json",
      "quiet",
      "verbose",
    ],
    ...["overwrite"],
  ],
  "Device and speed": ["precision", "use-gpu", "devices", "device", "threads", "workers", "readers"],
};

/** The groups of training's flags in commands that do not train. */
const OTHER_GROUPS: Readonly<Record<string, string>> = { "batch-size": "Device and speed", seed: "Data" };

/** Returns the heading of a flag's group in a command; `flag` begins with its long name. */
export function groupOf(flag: string, command: CommandName): string {
  const name = /^--([\w-]+)/.exec(flag)?.[1] ?? "";
  const other = command === "train" ? undefined : OTHER_GROUPS[name];
  const group = other ?? Object.keys(FLAG_GROUPS).find((heading) => FLAG_GROUPS[heading]?.includes(name));
  if (group === undefined) throw new Error(`${flag} is in no group of the help`);
  return `${group}:`;
}

/** Returns the examples and the pages of a command, for the end of its help, in lines of at most `columns` columns. */
export function describeExamples(command: CommandName, columns: number): string {
  const { examples, pages } = COMMAND_HELP[command];
  const lines = examples.flatMap((example) => wrapCommand(example, columns - 2)).map((line) => `  ${line}`);
  const more = wrapLine(`More: ${pages.map((page) => `docs/${page}`).join(", ")}`, columns);
  return ["", "Examples:", ...lines, "", ...more].join("\n");
}
