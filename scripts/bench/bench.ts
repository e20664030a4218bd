import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { NextvladError } from "../../src/base/errors.js";
import { loadConfig } from "../../src/config/load.js";
import { modelSizes } from "../../src/model/sizes.js";
import { readArguments, type Settings, USAGE } from "./arguments.js";
import { AUDIOSET_USAGE, benchAudioset } from "./audioset.js";
import { FULL_SIZE } from "./checkout.js";
import { type FromShards, prepareFromShards } from "./from-shards.js";
import type { NetworkTask, Task } from "./measure.js";
import { type Python, prepareMetricsPeers, prepareNetworkPeers, prepareReadPeers, type Run } from "./peers.js";
import { benchRecipes, RECIPES_USAGE } from "./recipes.js";
import { describeTask, formatReport, makeReport, nameOurs, type Pair } from "./report.js";
import { runTask } from "./run-task.js";
import { makeShards } from "./shards.js";
import { spreadOf } from "./statistics.js";

/** Videos of 120 to 300 frames of 1,152 bytes: 200 MB, as bench_read.py generates. */
const SHARDS = { videos: 830, perShard: 100, frames: [120, 300], features: { rgb: 1024, audio: 128 }, classes: 3862, seed: 1 } as const;

/** What each pair measures, in this order. */
interface Plan {
  readonly task: Task;
  readonly fromShards: FromShards | null;
  /** nextvlad with other settings. */
  readonly variants: readonly Run[];
  readonly peers: readonly Run[];
}

const progress = (text: string): void => {
  process.stderr.write(`${text}\n`);
};

/** Measures the task in another checkout, which must be built. Throws BAD_USAGE if its bench is too old for the task's options. */
function otherCheckout(task: Task, directory: string, signal: AbortSignal): Run {
  const isOldTask = "config" in task ? task.config === FULL_SIZE : task.mode !== "read" || task.readers === 2;
  return async () => {
    const { rate, peak_gib, task: measured } = await runTask(task, signal, resolve(directory));
    if (measured === undefined && !isOldTask) {
      const remedy = "omit --against, --config and --readers";
      throw new NextvladError("BAD_USAGE", "this checkout measures the published sizes with two reader threads only", {
        file: directory,
        remedy,
      });
    }
    return [{ name: directory, rate, peak_gib }];
  };
}

async function planNetwork(settings: Settings, python: Python | null, folder: string, signal: AbortSignal): Promise<Plan> {
  const { config: file, batch, frames, steps, precision, isa, useGpu, frameworks } = settings;
  const config = await loadConfig(file);
  const mode = settings.mode as NetworkTask["mode"];
  const task = { mode, config: file, batch, frames, steps, precision, isa, use_gpu: useGpu };
  return {
    task,
    peers: python === null ? [] : await prepareNetworkPeers(task, modelSizes(config.MODEL), frameworks, python),
    fromShards: settings.fromShards ? await prepareFromShards(task, config, settings.videos, folder, signal) : null,
    variants: [],
  };
}

async function planReading({ batch, readers }: Settings, python: Python | null, folder: string, signal: AbortSignal): Promise<Plan> {
  const directory = join(folder, "ours");
  await makeShards({ directory, ...SHARDS });
  const [task, ...others] = readers.map((count) => ({ mode: "read", directory, batch, readers: count }) as const);
  if (task === undefined) throw new RangeError("readers is empty");
  const variants = others.map((other) => async () => {
    const { rate, peak_gib } = await runTask(other, signal);
    return [{ name: nameOurs(other), rate, peak_gib }];
  });
  return { task, variants, peers: python === null ? [] : await prepareReadPeers(join(folder, "peers"), python), fromShards: null };
}

async function makePlan(settings: Settings, folder: string, signal: AbortSignal): Promise<Plan> {
  const python = settings.peers === null ? null : { interpreters: settings.peers.split(","), signal };
  if (settings.mode === "read") return planReading(settings, python, folder, signal);
  if (settings.mode !== "metrics") return planNetwork(settings, python, folder, signal);
  const { mode, videos } = settings;
  return {
    task: { mode, videos },
    variants: [],
    peers: python === null ? [] : await prepareMetricsPeers(videos, python),
    fromShards: null,
  };
}

/** Measures nextvlad, its variants and each peer in turn. */
async function runPair({ task, fromShards, variants, peers }: Plan, signal: AbortSignal): Promise<Pair> {
  const ours = await runTask(task, signal);
  const { median, min, max } = spreadOf(ours.seconds);
  progress(`  nextvlad ${ours.rate.toFixed(1)} (${median.toFixed(3)} s, ${min.toFixed(3)}..${max.toFixed(3)})`);
  const processTiming = (await fromShards?.run()) ?? null;
  if (processTiming !== null) progress(`  from shards ${processTiming.videos} videos in ${processTiming.seconds.toFixed(1)} s`);
  const measureAll = async (runs: readonly Run[]) => {
    const results = [];
    for (const run of runs) {
      for (const result of await run()) {
        progress(`  ${result.name} ${result.rate.toFixed(1)}`);
        results.push(result);
      }
    }
    return results;
  };
  return { ours, from_shards: processTiming, variants: await measureAll(variants), peers: await measureAll(peers) };
}

async function runBench(settings: Settings, folder: string, signal: AbortSignal): Promise<void> {
  const plan = await makePlan(settings, folder, signal);
  const { task } = plan;
  const other = settings.against === null ? [] : [otherCheckout(task, settings.against, signal)];
  const pairs: Pair[] = [];
  for (let pair = 1; pair <= settings.pairs; pair++) {
    progress(`${describeTask(task)}: ${pair} of ${settings.pairs}`);
    pairs.push(await runPair({ ...plan, variants: [...plan.variants, ...other] }, signal));
  }
  const report = makeReport(task, pairs);
  process.stdout.write(settings.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report));
}

const abort = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
let folder: string | null = null;
try {
  const [mode = "", ...rest] = process.argv.slice(2);
  const onRealData = { audioset: benchAudioset, recipes: benchRecipes }[mode];
  folder = await mkdtemp(join(tmpdir(), "nextvlad-bench-"));
  if (onRealData !== undefined) {
    process.stdout.write(await onRealData(rest, folder, abort.signal));
  } else {
    const settings = readArguments(process.argv.slice(2));
    if (settings === null) process.stdout.write([USAGE, AUDIOSET_USAGE, RECIPES_USAGE].join("\n"));
    else await runBench(settings, folder, abort.signal);
  }
} catch (error) {
  process.stderr.write(`${error instanceof NextvladError ? error.message : String(error)}\n`);
  process.exitCode = error instanceof NextvladError ? error.exitCode : 1;
} finally {
  if (folder !== null) await rm(folder, { recursive: true, force: true });
}
