/**
 * Measures training with several processes (`--devices`) and with batches in parts (`--accumulate`) on shards of random videos: the time of a step, the part of it
 * in which rank 0 waits for exchanges, and the peak memory of all processes, in alternation. Prints a Markdown table.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NextvladError } from "../../src/base/errors.js";
import { loadConfig } from "../../src/config/load.js";
import { ProcessTree } from "../attack/process-tree.js";
import { parseOptions, reject, wholeNumber } from "./arguments.js";
import { cliOf, FULL_SIZE, ROOT } from "./checkout.js";
import { makeShards } from "./shards.js";
import { formatSpread, spreadOf } from "./statistics.js";

const USAGE = `usage: node dist/scripts/bench/ranks.js [options]
  --runs A,B      what to compare: numbers of devices, each with an optional number of parts (default 1,2; 1x4 is one device and 4 parts)
  --config FILE   config with the network's sizes (default configs/nextvlad.yaml)
  --batch VIDEOS  batch size (default 160)
  --frames N      frames per video (default 300)
  --steps N       timed steps, after one warm-up step (default 3)
  --pairs N       number of alternating measurements (default 3)
`;

interface Run {
  readonly devices: number;
  readonly parts: number;
}

interface Sample {
  readonly stepSeconds: number;
  /** NaN for a process on its own. */
  readonly waitSeconds: number;
  readonly peakBytes: number;
}

function parseRuns(text: string): readonly Run[] {
  return text.split(",").map((item) => {
    const [, devices, parts = "1"] = /^(\d+)(?:x(\d+))?$/.exec(item) ?? reject("--runs", "a list such as 1,2,1x4", item);
    return { devices: wholeNumber("--runs", devices ?? ""), parts: wholeNumber("--runs", parts) };
  });
}

/** Trains, and returns the median of the steps without the first, timed between log lines, that of their waits, and the sum of the processes' peak memory. */
async function measure({ devices, parts }: Run, args: readonly string[], folder: string): Promise<Sample> {
  const saveDir = join(folder, "run");
  rmSync(saveDir, { recursive: true, force: true });
  const flags = ["--devices", String(devices), "--accumulate", String(parts), "--save-dir", saveDir];
  const child = spawn(process.execPath, [cliOf(ROOT), "train", ...args, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const tree = new ProcessTree(child.pid ?? 0);
  const poll = setInterval(() => tree.sample(), 100);
  const [exitCode] = await once(child, "close");
  clearInterval(poll);
  if (exitCode !== 0) throw new NextvladError("WORKER_DIED", `train failed with exit code ${exitCode}: ${stderr.trim()}`);
  const log = readdirSync(saveDir).find((name) => name.endsWith(".log.jsonl")) ?? "";
  const lines = readFileSync(join(saveDir, log), "utf8").trim().split("\n");
  const ofSteps = lines
    .map((line) => JSON.parse(line) as { readonly time: string; readonly tensors?: number; readonly exchange_wait_seconds?: number })
    .filter(({ tensors }) => tensors !== undefined);
  const seconds = ofSteps.slice(1).map(({ time }, i) => (Date.parse(time) - Date.parse(ofSteps[i]?.time ?? "")) / 1000);
  const waits = ofSteps.slice(1).map(({ exchange_wait_seconds = Number.NaN }) => exchange_wait_seconds);
  return { stepSeconds: spreadOf(seconds).median, waitSeconds: spreadOf(waits).median, peakBytes: tree.peakBytes };
}

async function main(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseOptions(argv, {
    runs: { type: "string", default: "1,2" },
    config: { type: "string", default: FULL_SIZE },
    batch: { type: "string", default: "160" },
    frames: { type: "string", default: "300" },
    steps: { type: "string", default: "3" },
    pairs: { type: "string", default: "3" },
    help: { type: "boolean", default: false },
  });
  if (values.help || positionals.length > 0) return void process.stdout.write(USAGE);
  const runs = parseRuns(values.runs);
  const [batch, frames, steps, pairs] = (["batch", "frames", "steps", "pairs"] as const).map((name) =>
    wholeNumber(`--${name}`, values[name]),
  ) as [number, number, number, number];
  const { MODEL } = await loadConfig(values.config);
  const folder = mkdtempSync(join(tmpdir(), "nextvlad-ranks-"));
  try {
    const videos = batch * (steps + 1);
    const features = { rgb: MODEL.video_feature_size, audio: MODEL.audio_feature_size };
    const shards = {
      directory: join(folder, "shards"),
      videos,
      perShard: 100,
      frames: [frames, frames],
      features,
      classes: MODEL.num_classes,
      seed: 1,
    } as const;
    const list = await makeShards(shards);
    const sets = ["MODEL.feature_names=[rgb, audio]", "MODEL.eigen_file=null", `TRAIN.filelist=${list}`, "TRAIN.epoch=1"];
    const options = [
      "--config",
      values.config,
      "--batch-size",
      String(batch),
      "--valid-interval",
      "0",
      "--log-interval",
      "1",
      "--use-gpu",
      "False",
    ];
    const args = [...options, ...sets.flatMap((set) => ["--set", set])];
    const samples = runs.map((): Sample[] => []);
    for (let pair = 0; pair < pairs; pair++) for (const [i, run] of runs.entries()) samples[i]?.push(await measure(run, args, folder));
    const rows = runs.map(({ devices, parts }, i) => {
      const own = samples[i] as readonly Sample[];
      const ratios = own.map(({ stepSeconds }, pair) => stepSeconds / (samples[0]?.[pair]?.stepSeconds ?? Number.NaN));
      const memory = spreadOf(own.map(({ peakBytes }) => peakBytes / 2 ** 30));
      const time = spreadOf(own.map(({ stepSeconds }) => stepSeconds));
      const waits = devices === 1 ? "" : formatSpread(spreadOf(own.map(({ waitSeconds }) => waitSeconds)), 2);
      return `| ${[devices, parts, formatSpread(time, 2), waits, formatSpread(spreadOf(ratios), 2), formatSpread(memory, 2)].join(" | ")} |`;
    });
    const head = [
      "devices",
      "parts",
      "seconds per step",
      "of which rank 0 waits for exchanges",
      "ratio to the first row",
      "peak memory of all processes, GiB",
    ];
    process.stdout.write(`| ${head.join(" | ")} |\n| ${head.map(() => "---").join(" | ")} |\n${rows.join("\n")}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
