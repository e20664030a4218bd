import { join } from "node:path";
import { loadConfig } from "../../src/config/load.js";
import { resolveShards } from "../../src/data/file-list.js";
import { modelSizes } from "../../src/model/sizes.js";
import { openReading } from "../../src/passes/reading.js";
import type { Level } from "../../src/runtime/processor.js";
import { audiosetConfigOf, cliOf, ROOT } from "./checkout.js";
import { makeWeights } from "./from-shards.js";
import { type Python, prepareNetworkPeers } from "./peers.js";
import { formatReport, makeReport, type Pair, type Report } from "./report.js";
import { runTask } from "./run-task.js";
import { formatPercent, formatSpread, ratiosToFastest, spreadOf } from "./statistics.js";
import { type ProcessTiming, reportProcesses, timeProcess } from "./whole-process.js";

const BATCH = 128;
/** AudioSet's clips last 10 seconds. */
const FRAMES = 10;
const STEPS = 20;
const COMMANDS = ["eval", "infer"] as const;

/** The runs of eval or infer in one checkout, one per pair. */
export interface PassTimings {
  readonly command: (typeof COMMANDS)[number];
  /** Path of another checkout, or null. */
  readonly checkout: string | null;
  readonly timings: ProcessTiming[];
}

/** Speed of eval and infer: the network on a batch in memory, beside the peers' forward pass, and the whole process on the clips. */
export interface PassSpeeds {
  readonly forward: Report;
  readonly passes: readonly PassTimings[];
}

/** What to measure. */
export interface PassSettings {
  /** List of the shards to evaluate on. */
  readonly evalList: string;
  readonly isa: Level | null;
  readonly pairs: number;
  /** Path of another checkout, which must be built, or null. */
  readonly against: string | null;
  /** Interpreters with PyTorch; null without peers. */
  readonly python: Python | null;
}

/** Measures eval and infer, in alternation with the network in memory and the peers. Writes below `folder`. Throws the errors of what it runs. */
export async function measurePasses(settings: PassSettings, folder: string, signal: AbortSignal): Promise<PassSpeeds> {
  const { evalList, isa, pairs, against, python } = settings;
  const config = audiosetConfigOf(ROOT);
  const { MODEL } = await loadConfig(config);
  const memory = { batch: BATCH, frames: FRAMES, steps: STEPS, precision: "float32", use_gpu: false } as const;
  const task = { mode: "infer", config, isa, ...memory } as const;
  const peers = python === null ? [] : await prepareNetworkPeers(task, modelSizes(MODEL), ["torch", "torch-compile"], python);
  const shards = await resolveShards(evalList, { cwd: folder });
  let clips = 0;
  const reading = openReading({ model: MODEL, labels: "optional", shards, batchSize: BATCH, readers: 1, onCorrupt: "error" });
  for await (const { ids } of reading) clips += ids.length;
  const runs: (PassTimings & { readonly run: () => Promise<ProcessTiming> })[] = [];
  for (const checkout of [null, ...(against === null ? [] : [against])]) {
    const root = checkout ?? ROOT;
    const cli = cliOf(root);
    const settings = { cli, config: audiosetConfigOf(root), modelName: MODEL.name, sets: [`TRAIN.filelist=${evalList}`] };
    const weights = await makeWeights(settings, join(folder, checkout === null ? "ours" : "other"), signal);
    const args = ["--weights", weights, "--filelist", evalList, "--use-gpu", "False"];
    for (const command of COMMANDS) {
      const run = () => timeProcess({ cli, command, args, batch: BATCH, videos: clips, isa }, folder, signal);
      runs.push({ command, checkout, timings: [], run });
    }
  }
  const measured: Pair[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    const ours = await runTask(task, signal);
    for (const { run, timings } of runs) timings.push(await run());
    const results = [];
    for (const peer of peers) results.push(...(await peer()));
    measured.push({ ours, from_shards: null, variants: [], peers: results });
    process.stderr.write(`eval and infer: ${pair + 1} of ${pairs}\n`);
  }
  const passes = runs.map(({ command, checkout, timings }) => ({ command, checkout, timings }));
  return { forward: makeReport(task, measured), passes };
}

/** Formats the speeds as Markdown tables. The shares are those of the network's rate in memory, and the ratio is that of the start-up to the other checkout's. */
export function formatPasses({ forward, passes }: PassSpeeds): string {
  const steady = forward.pairs.map(({ ours }) => ours.rate);
  const rows = passes.map(({ command, checkout, timings }) => {
    const { videos, share, rest_share, first_batch_seconds, wait_share } = reportProcesses(timings, steady);
    const rest = spreadOf(timings.map(({ rest_rate }) => rest_rate));
    const other = passes.find((pass) => pass.command === command && pass.checkout !== null);
    const starts = (of: readonly ProcessTiming[]): number[] => of.map((timing) => timing.first_batch_seconds);
    const isOurs = checkout === null;
    return [
      `${command} of ${videos} clips${isOurs ? "" : `, ${checkout}`}`,
      formatSpread(first_batch_seconds, 2),
      isOurs && other !== undefined ? formatSpread(spreadOf(ratiosToFastest(starts(timings), [starts(other.timings)])), 2) : "",
      formatSpread(rest, 0),
      isOurs ? formatPercent(rest_share) : "",
      isOurs ? formatPercent(share) : "",
      formatPercent(wait_share),
    ];
  });
  const header = [
    "whole process",
    "first batch done after, s",
    "ratio to other",
    "then, clips/s",
    "% of steady rate",
    "% with start-up",
    "% waiting for data",
  ];
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [formatReport(forward), line(header), line(header.map(() => "---")), ...rows.map(line), ""].join("\n");
}
