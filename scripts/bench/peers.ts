import { access } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { NextvladError } from "../../src/base/errors.js";
import { runChild } from "./child.js";
import type { Task } from "./measure.js";
import { paddedFrames } from "./workload.js";

/** A peer's result, parsed from a line of its output that begins with RESULT. */
export interface PeerResult {
  readonly name: string;
  /** Videos per second; for reading, 10^6 bytes per second. */
  readonly rate: number;
  readonly peak_gib: number | null;
}

const PACKAGE_OF: Readonly<Record<string, string>> = {
  tf: "tensorflow",
  "tf-xla": "tensorflow",
  torch: "torch",
  "torch-compile": "torch",
  paddle: "paddle",
};

/** Frameworks supported by bench_peers.py, on the CPU. */
export const FRAMEWORKS: readonly string[] = Object.keys(PACKAGE_OF);
/** Frameworks supported by torch_gpu.py, in this directory. */
export const GPU_FRAMEWORKS: readonly string[] = ["torch", "torch-compile"];
const GPU_SCRIPT = fileURLToPath(new URL("../../../scripts/bench/torch_gpu.py", import.meta.url));

const RESULT_FORMS: Readonly<Record<Task["mode"], RegExp>> = {
  train: /^RESULT .+? (?<name>tf|tf-xla|torch|torch-compile|paddle) +train .*? (?<rate>[\d.]+) videos\/s .*peakRSS (?<peak>[\d.]+) GB/,
  infer: /^RESULT .+? (?<name>tf|tf-xla|torch|torch-compile|paddle) +infer .*? (?<rate>[\d.]+) videos\/s .*peakRSS (?<peak>[\d.]+) GB/,
  // Does not match the baseline that only reads bytes without parsing: its line contains no record count.
  read: /^RESULT read (?<name>.+?) +\d+ records .* (?<rate>[\d.]+) MB\/s/,
  metrics: /^RESULT (?<name>numpy) metrics (?<videos>\d+) videos .*: (?<seconds>[\d.]+) s /,
};

/** Parses the RESULT lines of a peer's output and ignores other lines. */
export function parseResults(output: string, mode: Task["mode"]): PeerResult[] {
  return output.split("\n").flatMap((line) => {
    const { name = "", rate, peak, videos, seconds } = RESULT_FORMS[mode].exec(line)?.groups ?? {};
    if (name === "") return [];
    return [
      {
        name,
        rate: rate === undefined ? Number(videos) / Number(seconds) : Number(rate),
        peak_gib: peak === undefined ? null : Number(peak),
      },
    ];
  });
}

/** The peers' scripts and the interpreters to run them with. */
export interface Peers {
  readonly directory: string;
  readonly interpreters: readonly string[];
  readonly signal: AbortSignal;
}

/** Returns the path of a peer's script, in $NEXTVLAD_PEERS or next to the repository. Throws FILE_MISSING if it does not exist. */
export async function findPeerScript(name: string): Promise<string> {
  const directory = process.env.NEXTVLAD_PEERS ?? fileURLToPath(new URL("../../../../shared/peers", import.meta.url));
  const file = join(directory, name);
  await access(file).catch((error: unknown) => {
    const remedy = "set NEXTVLAD_PEERS to the directory of the peers' scripts, or omit --peers";
    throw new NextvladError("FILE_MISSING", "the peers' script is missing", { file, remedy }, error);
  });
  return file;
}

/** Finds the peers' scripts. `pythons` is a comma-separated list of interpreters. Throws FILE_MISSING if a script does not exist. */
export async function findPeers(pythons: string, signal: AbortSignal): Promise<Peers> {
  const [first] = await Promise.all(["bench_peers.py", "bench_read.py", "bench_metrics.py"].map(findPeerScript));
  return { directory: dirname(first as string), interpreters: pythons.split(","), signal };
}

/** Returns the first interpreter that has the package. Throws NOT_SET_UP if none has it. */
export async function interpreterWith(
  packageName: string,
  { interpreters, signal }: Pick<Peers, "interpreters" | "signal">,
): Promise<string> {
  const program = `import importlib.util; print(importlib.util.find_spec("${packageName}") is not None)`;
  for (const interpreter of interpreters) {
    if ((await runChild(interpreter, ["-c", program], signal)).trim() === "True") return interpreter;
  }
  throw new NextvladError("NOT_SET_UP", `${interpreters.join(" and ")} cannot import ${packageName}`, {
    key: "--peers",
    remedy: "install it there, pass another interpreter (several are separated by commas), or choose others with --frameworks",
  });
}

/** Runs one peer once on the task's shapes. */
export type PeerRun = (task: Task) => Promise<readonly PeerResult[]>;

/** Returns a function per peer that runs it once; call it once per pair. The peers' files go to `directory`. Throws NOT_SET_UP if a package is missing. */
export async function preparePeers(peers: Peers, mode: Task["mode"], frameworks: readonly string[], directory: string): Promise<PeerRun[]> {
  const script = (name: string): string => join(peers.directory, name);
  const run = async (interpreter: string, args: readonly string[]): Promise<readonly PeerResult[]> => {
    const results = parseResults(await runChild(interpreter, args, peers.signal, { PYTHONDONTWRITEBYTECODE: "1" }), mode);
    if (results.length === 0)
      throw new NextvladError("BAD_FORMAT", "the peer printed no matching RESULT line", { file: args[0] as string });
    return results;
  };
  if (mode === "read") {
    const interpreter = await interpreterWith("tensorflow", peers);
    await runChild(interpreter, [script("bench_read.py"), "make", directory], peers.signal);
    return [() => run(interpreter, [script("bench_read.py"), "run", directory])];
  }
  if (mode === "metrics") {
    const interpreter = await interpreterWith("numpy", peers);
    return [(task) => run(interpreter, [script("bench_metrics.py"), ...("videos" in task ? [String(task.videos)] : [])])];
  }
  return Promise.all(
    frameworks.map(async (framework) => {
      const interpreter = await interpreterWith(PACKAGE_OF[framework] as string, peers);
      return (task: Task) => run(interpreter, [...networkScript(task, peers.directory), "--framework", framework, ...shapeArguments(task)]);
    }),
  );
}

function networkScript(task: Task, directory: string): string[] {
  if (!("use_gpu" in task) || !task.use_gpu) return [join(directory, "bench_peers.py")];
  return task.precision === "tf32" ? [GPU_SCRIPT, "--tf32"] : [GPU_SCRIPT];
}

/** Returns the peers' shape arguments. Peers pad every video to the longest and use all cores, as our TensorFlow does. */
function shapeArguments(task: Task): string[] {
  if (task.mode !== "train" && task.mode !== "infer") return [];
  const numbers = { batch: task.batch, frames: paddedFrames(task.frames), steps: task.steps, threads: availableParallelism() };
  return ["--mode", task.mode, ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)])];
}
