/**
 * Compares `nextvlad infer` as a whole process, from start to the last file, with the steady rate of the same network on the same shapes: full size, batches
 * of 32 videos of 300 frames, alternating between the two. Prints the share of the steady rate, the time to the first batch and the share of waiting for data.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runChild } from "./child.js";
import type { Measurement } from "./measure.js";
import { makeShards } from "./shards.js";
import { spreadOf } from "./statistics.js";

const USAGE = "usage: node dist/scripts/bench/end-to-end.js [--videos 2000] [--pairs 5] [--precision float32] [--json]";
const MEASURE = fileURLToPath(new URL("./measure.js", import.meta.url));
const CLI = fileURLToPath(new URL("../../src/nextvlad.cjs", import.meta.url));
const CONFIG = fileURLToPath(new URL("../../../configs/nextvlad.yaml", import.meta.url));
const BATCH = 32;
const FRAMES = 300;

interface Line {
  /** ISO 8601. */
  readonly time: string;
  readonly msg: string;
  readonly wait_share?: number;
}

/** Trains for one step and returns the snapshot: the values of the weights do not affect the timing. */
async function makeWeights(directory: string, list: string, signal: AbortSignal): Promise<string> {
  const saveDir = join(directory, "checkpoints");
  const sets = [`TRAIN.filelist=${list}`, "MODEL.eigen_file=null", "TRAIN.max_iter=1", "TRAIN.epoch=1"].flatMap((set) => ["--set", set]);
  const flags = ["--config", CONFIG, "--batch-size", "16", "--use-gpu", "False", "--valid-interval", "0", "--save-dir", saveDir];
  await runChild(process.execPath, [CLI, "train", ...flags, ...sets], signal);
  return join(saveDir, "NEXTVLAD_step1");
}

/** One pair: the steady rate in videos per second, and the timing of the whole process. */
interface Run {
  readonly steady: number;
  /** The whole process's rate as a fraction of the steady rate: 0..1. */
  readonly share: number;
  readonly seconds: number;
  /** Seconds from process start to the end of the first batch. */
  readonly firstBatch: number;
  /** Fraction of the time spent waiting for data: 0..1. */
  readonly waitShare: number;
}

async function timeProcess(
  directory: string,
  weights: string,
  list: string,
  precision: string,
  signal: AbortSignal,
): Promise<Pick<Run, "seconds" | "firstBatch" | "waitShare">> {
  const saveDir = await mkdtemp(join(directory, "results-"));
  const flags = ["--weights", weights, "--filelist", list, "--batch-size", String(BATCH), "--precision", precision, "--use-gpu", "False"];
  const startMs = Date.now();
  await runChild(process.execPath, [CLI, "infer", ...flags, "--log-interval", "1", "--save-dir", saveDir], signal);
  const seconds = (Date.now() - startMs) / 1000;
  const log = await readFile(join(saveDir, "infer.log.jsonl"), "utf8");
  const batches = log
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line)
    .filter(({ msg }) => msg.startsWith("[INFER] Processed"));
  const [first, last] = [batches[0], batches.at(-1)];
  if (first?.time === undefined || last?.wait_share === undefined) throw new Error("the log contains no batches");
  return { seconds, firstBatch: (Date.parse(first.time) - startMs) / 1000, waitShare: last.wait_share };
}

async function compare(videos: number, pairs: number, precision: string, signal: AbortSignal): Promise<Run[]> {
  const directory = await mkdtemp(join(tmpdir(), "nextvlad-end-to-end-"));
  try {
    const list = await makeShards({
      directory: join(directory, "shards"),
      videos,
      perShard: 100,
      frames: [FRAMES, FRAMES],
      classes: 3862,
      seed: 1,
    });
    const weights = await makeWeights(directory, list, signal);
    const task = JSON.stringify({ mode: "infer", batch: BATCH, frames: FRAMES, steps: 10, precision, use_gpu: false });
    const runs: Run[] = [];
    for (let pair = 0; pair < pairs; pair++) {
      const { rate } = JSON.parse(await runChild(process.execPath, [MEASURE, task], signal)) as Measurement;
      const whole = await timeProcess(directory, weights, list, precision, signal);
      runs.push({ steady: rate, ...whole, share: videos / whole.seconds / rate });
      process.stderr.write(`${pair + 1} of ${pairs}: ${JSON.stringify(runs.at(-1))}\n`);
    }
    return runs;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const abort = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
try {
  const { values } = parseArgs({
    options: {
      videos: { type: "string", default: "2000" },
      pairs: { type: "string", default: "5" },
      precision: { type: "string", default: "float32" },
      json: { type: "boolean", default: false },
    },
  });
  const [videos, pairs] = [Number(values.videos), Number(values.pairs)];
  if (![videos, pairs].every((count) => Number.isInteger(count) && count > 0)) throw new Error(USAGE);
  const runs = await compare(videos, pairs, values.precision, abort.signal);
  const percent = (value: number): string => (100 * value).toFixed(1);
  const spreadText = (of: (run: Run) => number, show: (value: number) => string): string => {
    const { median, min, max } = spreadOf(runs.map(of));
    return `${show(median)} (${show(min)}..${show(max)})`;
  };
  const rate = spreadText(
    ({ steady }) => steady,
    (value) => value.toFixed(1),
  );
  const share = spreadText((run) => run.share, percent);
  const first = spreadText(
    ({ firstBatch }) => firstBatch,
    (value) => value.toFixed(2),
  );
  const wait = spreadText(({ waitShare }) => waitShare, percent);
  const line = `${videos} videos: ${share} % of the steady ${rate} videos/s; first batch done after ${first} s; ${wait} % of the time waiting for data`;
  process.stdout.write(`${values.json ? JSON.stringify(runs) : line}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
