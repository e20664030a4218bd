import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { NextvladError } from "../../src/base/errors.js";
import { readArguments, type Settings, USAGE } from "./arguments.js";
import { AUDIOSET_USAGE, benchAudioset } from "./audioset.js";
import { runChild } from "./child.js";
import type { Measurement, Task } from "./measure.js";
import { findPeers, type PeerRun, preparePeers } from "./peers.js";
import { describeTask, formatReport, makeReport, type Pair } from "./report.js";
import { makeShards } from "./shards.js";
import { spreadOf } from "./statistics.js";

const MEASURE = fileURLToPath(new URL("./measure.js", import.meta.url));

/** Videos of 120 to 300 frames of 1,152 bytes: 200 MB, as bench_read.py generates. */
const SHARDS = { videos: 830, perShard: 100, frames: [120, 300], classes: 3862, seed: 1 } as const;

async function makeTask(settings: Settings, folder: string): Promise<Task> {
  const { mode, batch, frames, steps, precision, useGpu, videos } = settings;
  if (mode === "metrics") return { mode, videos };
  if (mode !== "read") return { mode, batch, frames, steps, precision, use_gpu: useGpu };
  const directory = join(folder, "ours");
  await makeShards({ directory, ...SHARDS });
  return { mode, directory, batch };
}

const progress = (text: string): void => {
  process.stderr.write(`${text}\n`);
};

/** Runs the same benchmark in another checkout, which must be built. */
function otherCheckout(directory: string, signal: AbortSignal): PeerRun {
  const script = resolve(directory, "dist/scripts/bench/measure.js");
  return async (task) => {
    const { rate, peak_gib } = JSON.parse(await runChild(process.execPath, [script, JSON.stringify(task)], signal)) as Measurement;
    return [{ name: directory, rate, peak_gib }];
  };
}

/** Measures nextvlad, then each peer in turn. */
async function runPair(task: Task, peers: readonly PeerRun[], signal: AbortSignal): Promise<Pair> {
  const ours = JSON.parse(await runChild(process.execPath, [MEASURE, JSON.stringify(task)], signal)) as Measurement;
  const { median, min, max } = spreadOf(ours.seconds);
  progress(`  nextvlad ${ours.rate.toFixed(1)} (${median.toFixed(3)} s, ${min.toFixed(3)}..${max.toFixed(3)})`);
  const results = [];
  for (const run of peers) {
    for (const result of await run(task)) {
      progress(`  ${result.name} ${result.rate.toFixed(1)}`);
      results.push(result);
    }
  }
  return { ours, peers: results };
}

async function runBench(settings: Settings, folder: string, signal: AbortSignal): Promise<void> {
  const found = settings.peers === null ? null : await findPeers(settings.peers, signal);
  const peers = [
    ...(settings.against === null ? [] : [otherCheckout(settings.against, signal)]),
    ...(found === null ? [] : await preparePeers(found, settings.mode, settings.frameworks, join(folder, "peers"))),
  ];
  const task = await makeTask(settings, folder);
  const pairs: Pair[] = [];
  for (let pair = 1; pair <= settings.pairs; pair++) {
    progress(`${describeTask(task)}: ${pair} of ${settings.pairs}`);
    pairs.push(await runPair(task, peers, signal));
  }
  const report = makeReport(task, pairs);
  process.stdout.write(settings.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report));
}

const abort = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
let folder: string | null = null;
try {
  const [mode, ...rest] = process.argv.slice(2);
  const isAudioset = mode === "audioset";
  const settings = isAudioset ? null : readArguments(process.argv.slice(2));
  if (!isAudioset && settings === null) {
    process.stdout.write(`${USAGE}\n${AUDIOSET_USAGE}`);
  } else {
    folder = await mkdtemp(join(tmpdir(), "nextvlad-bench-"));
    if (settings === null) process.stdout.write(await benchAudioset(rest, folder, abort.signal));
    else await runBench(settings, folder, abort.signal);
  }
} catch (error) {
  process.stderr.write(`${error instanceof NextvladError ? error.message : String(error)}\n`);
  process.exitCode = error instanceof NextvladError ? error.exitCode : 1;
} finally {
  if (folder !== null) await rm(folder, { recursive: true, force: true });
}
