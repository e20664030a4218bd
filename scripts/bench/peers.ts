import { access } from "node:fs/promises";
import { join } from "node:path";
import { NextvladError } from "../../src/base/errors.js";
import { chooseThreads } from "../../src/base/threads.js";
import type { ModelSizes } from "../../src/model/sizes.js";
import { ROOT } from "./checkout.js";
import { runChild } from "./child.js";
import { isaEnvironment } from "./isa.js";
import type { NetworkTask } from "./measure.js";
import { frameRange } from "./workload.js";

/** The rate of something that nextvlad is compared with. */
export interface Result {
  readonly name: string;
  /** Videos per second; for reading, 10^6 bytes per second. */
  readonly rate: number;
  readonly peak_gib: number | null;
}

/** Measures something once; call it once per pair. */
export type Run = () => Promise<readonly Result[]>;

const PACKAGE_OF: Readonly<Record<string, string>> = { tf: "tensorflow", "tf-xla": "tensorflow", torch: "torch", "torch-compile": "torch" };

/** Frameworks supported by peers.py, in this directory, on the CPU. */
export const FRAMEWORKS: readonly string[] = Object.keys(PACKAGE_OF);
/** Frameworks supported by peers.py on the GPU. */
export const GPU_FRAMEWORKS: readonly string[] = ["torch", "torch-compile"];
const NETWORK_SCRIPT = join(ROOT, "scripts/bench/peers.py");

/** The interpreters of the peers: each has one or more of the frameworks. */
export interface Python {
  readonly interpreters: readonly string[];
  readonly signal: AbortSignal;
}

/** Returns the path of a peer's script, in $NEXTVLAD_PEERS or next to the repository. Throws FILE_MISSING if it does not exist. */
export async function findPeerScript(name: string): Promise<string> {
  const directory = process.env.NEXTVLAD_PEERS ?? join(ROOT, "../shared/peers");
  const file = join(directory, name);
  await access(file).catch((error: unknown) => {
    const remedy = "set NEXTVLAD_PEERS to the directory of the peers' scripts, or omit --peers";
    throw new NextvladError("FILE_MISSING", "the peers' script is missing", { file, remedy }, error);
  });
  return file;
}

/** Returns the first interpreter that has the package. Throws NOT_SET_UP if none has it. */
export async function interpreterWith(packageName: string, { interpreters, signal }: Python): Promise<string> {
  const program = `import importlib.util; print(importlib.util.find_spec("${packageName}") is not None)`;
  for (const interpreter of interpreters) {
    if ((await runChild(interpreter, ["-c", program], signal)).trim() === "True") return interpreter;
  }
  throw new NextvladError("NOT_SET_UP", `${interpreters.join(" and ")} cannot import ${packageName}`, {
    key: "--peers",
    remedy: "install it there, pass another interpreter (several are separated by commas), or choose others with --frameworks",
  });
}

/** Returns a function per framework that measures the network in it. Throws NOT_SET_UP if a package is missing, BAD_USAGE if the peers lack the model. */
export async function prepareNetworkPeers(
  task: NetworkTask,
  sizes: ModelSizes,
  frameworks: readonly string[],
  python: Python,
): Promise<Run[]> {
  if (sizes.mixtures > 1)
    throw new NextvladError("BAD_USAGE", "the peers compute another classifier", {
      key: "MODEL.num_mixtures",
      expected: 1,
      found: sizes.mixtures,
      remedy: "omit --peers",
    });
  if (sizes.model !== "NEXTVLAD")
    throw new NextvladError("BAD_USAGE", "the peers compute another model", {
      key: "MODEL.name",
      expected: "NEXTVLAD",
      found: sizes.model,
      remedy: "omit --peers",
    });
  return Promise.all(
    frameworks.map(async (framework) => {
      const interpreter = await interpreterWith(PACKAGE_OF[framework] as string, python);
      const args = [NETWORK_SCRIPT, "--framework", framework, ...networkArguments(task, sizes)];
      const env = { PYTHONDONTWRITEBYTECODE: "1", ...isaEnvironment(task.isa) };
      return async () => [parseNetworkResult(await runChild(interpreter, args, python.signal, env))];
    }),
  );
}

/** Returns the arguments of peers.py. Peers pad every video to the longest, and use as many threads as nextvlad by default (OMP_NUM_THREADS sets both). */
export function networkArguments({ mode, use_gpu, batch, frames, steps, precision }: NetworkTask, sizes: ModelSizes): readonly string[] {
  const numbers = {
    ...{ batch, frames: frameRange(frames)[1], steps, threads: chooseThreads(null, () => undefined).count },
    ...{ rgb: sizes.rgbFeatures, audio: sizes.audioFeatures, expansion: sizes.expansion, groups: sizes.groups, clusters: sizes.clusters },
    ...{ hidden: sizes.hidden, bottleneck: sizes.bottleneck, classes: sizes.classes },
  };
  return [
    ...["--mode", mode, "--device", use_gpu ? "gpu" : "cpu"],
    ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)]),
    ...(precision === "tf32" ? ["--tf32"] : []),
  ];
}

/** Parses the JSON object in the last line that peers.py prints. Throws BAD_FORMAT. */
export function parseNetworkResult(output: string): Result {
  const line = output.trim().split("\n").at(-1) ?? "";
  if (!line.startsWith("{"))
    throw new NextvladError("BAD_FORMAT", "the peer printed no JSON object", { file: NETWORK_SCRIPT, found: line });
  const { name, rate, peak_gib } = JSON.parse(line) as Result;
  return { name, rate, peak_gib };
}

/** Makes the shards of tf.data's pipelines in `directory`, and returns a function that measures how fast they read them. */
export async function prepareReadPeers(directory: string, python: Python): Promise<Run[]> {
  const script = await findPeerScript("bench_read.py");
  const interpreter = await interpreterWith("tensorflow", python);
  await runChild(interpreter, [script, "make", directory], python.signal);
  return [() => runScript(interpreter, [script, "run", directory], parseReadResults, python.signal)];
}

/** Returns a function that measures how fast numpy computes the metrics. */
export async function prepareMetricsPeers(videos: number, python: Python): Promise<Run[]> {
  const script = await findPeerScript("bench_metrics.py");
  const interpreter = await interpreterWith("numpy", python);
  return [() => runScript(interpreter, [script, String(videos)], parseMetricsResults, python.signal)];
}

async function runScript(
  interpreter: string,
  args: readonly [string, ...string[]],
  parse: (output: string) => readonly Result[],
  signal: AbortSignal,
): Promise<readonly Result[]> {
  const results = parse(await runChild(interpreter, args, signal, { PYTHONDONTWRITEBYTECODE: "1" }));
  if (results.length === 0) throw new NextvladError("BAD_FORMAT", "the peer printed no matching RESULT line", { file: args[0] });
  return results;
}

/** Parses the RESULT lines of tf.data's pipelines. The baseline that only reads bytes without parsing them is no pipeline: its line has no record count. */
export function parseReadResults(output: string): readonly Result[] {
  return [...output.matchAll(/^RESULT read (.+?) +\d+ records .* ([\d.]+) MB\/s/gm)].map(([, name = "", rate]) => ({
    name,
    rate: Number(rate),
    peak_gib: null,
  }));
}

/** Parses the RESULT line of the metrics in numpy. */
export function parseMetricsResults(output: string): readonly Result[] {
  return [...output.matchAll(/^RESULT (numpy) metrics (\d+) videos .*: ([\d.]+) s /gm)].map(([, name = "", videos, seconds]) => ({
    name,
    rate: Number(videos) / Number(seconds),
    peak_gib: null,
  }));
}
