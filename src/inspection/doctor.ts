import { type ChildProcess, fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { deserializeError, NextvladError } from "../base/errors.js";
import { formatBytes } from "../base/numbers.js";
import { freeBytes } from "../base/output-checks.js";
import { PACKAGE_DIRECTORY, setupAgain } from "../base/package.js";
import { availableMemory, readLimit, requireProcessLimits } from "../base/resource-limits.js";
import { readSystemFile } from "../base/system-files.js";
import { chooseThreads, countReaders, formatThreads, type Threads } from "../base/threads.js";
import { isPickle, readShard } from "../data/shard-reader.js";
import { ANY_SHAPE } from "../data/video.js";
import { visibleGpus } from "../distributed/devices.js";
import { readTfRecordFile } from "../formats/containers/tfrecord.js";
import { parseSequenceExample } from "../formats/protobuf/sequence-example.js";
import { type CudaFacts, explainCuda } from "../runtime/cuda.js";
import type { Probe, ProbeReply } from "./doctor-probe.js";

/** Something that was checked, what was found, and what to do about it. */
export interface Check {
  readonly name: string;
  /** "problem": `train` does not work. "warning": it works, but not as fast as it could, or may fail later. */
  readonly status: "ok" | "warning" | "problem";
  readonly found: string;
  readonly remedy?: string;
}

export interface Diagnosis {
  readonly checks: readonly Check[];
  /** What TensorFlow computes on; null if it cannot be loaded. */
  readonly probe: Probe | null;
}

/** Where the checks look. */
export interface DoctorSources {
  readonly environment?: NodeJS.ProcessEnv;
  /** The directory that contains /proc and /sys. */
  readonly root?: string;
  /** The directory of setup's builds, .native in the package. */
  readonly native?: string;
  readonly nodeVersion?: string;
  /** The directory whose disk is checked. */
  readonly directory?: string;
}

/** Checks whether training works on this machine, and how fast it would be. `shard`: a shard to read; null for none. */
export async function diagnose(shard: string | null, sources: DoctorSources = {}): Promise<Diagnosis> {
  const { environment = process.env, root = "/", directory = process.cwd(), nodeVersion = process.versions.node } = sources;
  const { native = join(PACKAGE_DIRECTORY, ".native") } = sources;
  const threads = chooseThreads(null, () => undefined, { environment, root });
  const cpuinfo = readSystemFile(join(root, "proc/cpuinfo"));
  const { probe, check: tensorflow } = await checkTensorflow(threads, environment);
  return {
    probe,
    checks: [
      checkNode(nodeVersion),
      tensorflow,
      ...(probe === null
        ? checkTools(environment)
        : [describeDevice(probe), describeProcessor(probe, cpuinfo), checkSpeed(probe, threads)]),
      checkCuda({ kind: probe?.kind ?? null, visible: visibleGpus({ environment, root }).length, environment, root, native }),
      checkMemory(root),
      await checkDisk(directory),
      checkLimits(threads, root),
      ...(shard === null ? [] : [await checkShard(shard)]),
    ],
  };
}

function checkNode(version: string): Check {
  const major = Number(version.split(".")[0]);
  const name = "Node.js";
  if (major >= 20 && major <= 24) return { name, status: "ok", found: version };
  return { name, status: "problem", found: `${version} (expected 20, 22 or 24)`, remedy: "install Node.js 22: nvm install 22" };
}

const PROBE = new URL("./doctor-probe.js", import.meta.url);

/** Loads TensorFlow in a process of its own, which it may end: with SIGILL, or by abort(). */
async function checkTensorflow(
  threads: Threads,
  environment: NodeJS.ProcessEnv,
): Promise<{ readonly probe: Probe | null; readonly check: Check }> {
  const name = "TensorFlow";
  const child = fork(PROBE, [String(threads.count)], { env: environment, stdio: ["ignore", "ignore", "pipe", "ipc"] });
  const { reply, end } = await waitFor(child);
  if (reply !== null && "probe" in reply) return { probe: reply.probe, check: { name, status: "ok", found: reply.probe.tensorflow } };
  const error = reply === null ? null : (deserializeError(reply.error) as NextvladError);
  const found = error?.what ?? `the process that loads it ended: ${end}`;
  const remedy = error?.details.remedy ?? `set it up again: ${setupAgain()}`;
  return { probe: null, check: { name, status: "problem", found, remedy } };
}

/** Returns what the process has sent, null if nothing, and how it ended. */
async function waitFor(child: ChildProcess): Promise<{ readonly reply: ProbeReply | null; readonly end: string }> {
  let reply: ProbeReply | null = null;
  let output = "";
  child.on("message", (message: ProbeReply) => {
    reply = message;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const [exitCode, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  const lastLine = output.trim().split("\n").at(-1) ?? "";
  return { reply, end: `${signal ?? `exit code ${exitCode}`}${lastLine === "" ? "" : `, ${lastLine}`}` };
}

/** The programs that setup runs, and how to install them on Debian and Ubuntu. */
const TOOLS: readonly (readonly [program: string, args: readonly string[], remedy: string])[] = [
  ["g++", ["--version"], "apt-get install g++"],
  ["python3", ["-m", "pip", "--version"], "apt-get install python3 python3-pip"],
];

/** If TensorFlow does not load: checks what setup needs. */
function checkTools(environment: NodeJS.ProcessEnv): readonly Check[] {
  return TOOLS.map(([program, args, remedy]) => {
    const { status, stdout } = spawnSync(program, args, { env: environment, encoding: "utf8" });
    const name = program === "g++" ? "compiler" : "Python's pip";
    if (status === 0) return { name, status: "ok", found: stdout.split("\n", 1)[0] ?? "" };
    return { name, status: "problem", found: `${[program, ...args].join(" ")} fails, which setup needs`, remedy };
  });
}

function describeDevice({ device }: Probe): Check {
  return { name: "device", status: "ok", found: device };
}

/** Below this fraction of the processor's maximum, something slows it down. A product reaches 50 to 90 % of it. */
const MIN_SPEED = 0.3;

function describeProcessor({ level, supportedLevels }: Probe, cpuinfo: string): Check {
  const model = /^model name\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? "unknown";
  const best = supportedLevels.at(-1);
  const reason = level === best ? "the best that it supports" : `set by NEXTVLAD_ISA; the best is ${best}`;
  return { name: "processor", status: level === best ? "ok" : "warning", found: `${model}, level ${level} (${reason})` };
}

/** Compares a matrix product with the maximum of the threads. */
function checkSpeed({ gigaflops, peakGigaflops: peak }: Probe, threads: Threads): Check {
  const name = "matrix product";
  const found = `${gigaflops.toFixed(0)} GFLOP/s`;
  if (peak === null) return { name, status: "ok", found };
  const compared = `${found}, ${((100 * gigaflops) / peak).toFixed(0)} % of the maximum of ${formatThreads(threads.count)}`;
  if (gigaflops >= MIN_SPEED * peak) return { name, status: "ok", found: compared };
  const remedy = "check for other programs (top), a CPU quota, and hyper-threads that share a core (--threads)";
  return { name, status: "warning", found: compared, remedy };
}

function checkCuda(facts: CudaFacts): Check {
  const { found, remedy } = explainCuda(facts);
  return remedy === null ? { name: "GPU", status: "ok", found } : { name: "GPU", status: "warning", found, remedy };
}

/** Memory in which the full-size model trains with batches of 32 videos: 2.6 GiB at level avx2 (docs/performance.md). */
const COMFORTABLE_BYTES = 3e9;

function checkMemory(root: string): Check {
  const { bytes, limit, remedy } = availableMemory(root);
  const found = `${formatBytes(bytes)} available within ${limit}`;
  if (bytes >= COMFORTABLE_BYTES) return { name: "memory", status: "ok", found };
  return { name: "memory", status: "warning", found: `${found}; the full-size model needs ${formatBytes(COMFORTABLE_BYTES)}`, remedy };
}

/** Space of six snapshots of the full-size model and the best one, as the published recipe writes. */
const RECIPE_BYTES = 7.5e9;

async function checkDisk(directory: string): Promise<Check> {
  const free = await freeBytes(directory);
  const name = "disk";
  if (free === null) return { name, status: "ok", found: `${directory}: the free space is unknown` };
  const found = `${directory}: ${formatBytes(free)} free`;
  if (free >= RECIPE_BYTES) return { name, status: "ok", found };
  const remedy = "free disk space, use --keep, or a --save-dir on another disk";
  return { name, status: "warning", found: `${found}; the published recipe's snapshots take ${formatBytes(RECIPE_BYTES)}`, remedy };
}

/** Checks the process's limits as `train` does before it starts its threads. */
function checkLimits(threads: Threads, root: string): Check {
  const name = "open files";
  const files = readLimit("Max open files", root);
  const found = `${files === Number.POSITIVE_INFINITY ? "no limit" : `at most ${files}`} (ulimit -n)`;
  try {
    requireProcessLimits({ threads: countReaders(null, threads) + 1, tensorflow: true }, "use fewer readers: TRAIN.num_readers", root);
    return { name, status: "ok", found };
  } catch (error) {
    if (!(error instanceof NextvladError)) throw error;
    return { name, status: "problem", found: error.what, remedy: error.details.remedy ?? "" };
  }
}

/** Returns the names of the feature lists of a shard's first video: YouTube-8M's if it has one of them, else the first two of its own, such as AudioSet's. */
async function findFeatureNames(path: string): Promise<readonly [string, string]> {
  const [rgb, audio] = ANY_SHAPE.featureNames;
  if (await isPickle(path)) return [rgb, audio];
  for await (const { data, record, byteOffset } of readTfRecordFile(path)) {
    const { listNames } = parseSequenceExample(data, { file: path, record, byteOffset }, { listNames: [], maxFrames: 0 });
    const [first = rgb, second = audio] = listNames.some((name) => name === rgb || name === audio) ? [] : listNames;
    return [first, second];
  }
  return [rgb, audio];
}

/** Reads a whole shard, and measures how fast. */
async function checkShard(path: string): Promise<Check> {
  const name = "shard";
  let start = 0;
  let videos = 0;
  let bytes = 0;
  try {
    const featureNames = await findFeatureNames(path);
    start = performance.now();
    for await (const { filePosition } of readShard(path, { ...ANY_SHAPE, featureNames })) {
      videos++;
      bytes = filePosition;
    }
  } catch (error) {
    if (!(error instanceof NextvladError)) throw error;
    return { name, status: "problem", found: error.message, remedy: `nextvlad verify ${path}` };
  }
  const seconds = (performance.now() - start) / 1000;
  const rate = `${(videos / seconds).toFixed(0)} videos/s, ${formatBytes(bytes / seconds)}/s with one thread`;
  return { name, status: "ok", found: `${path}: ${videos} videos, ${formatBytes(bytes)}, ${rate}` };
}
