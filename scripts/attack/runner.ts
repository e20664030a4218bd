import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Attempt, type ExitStatus, titleOf } from "./attempt.js";
import { judge, LIMITS, type Limits, type Observation, type Problem } from "./judge.js";
import { ProcessTree } from "./process-tree.js";
import { compareFiles, lookAtFiles } from "./watched-files.js";
import { Workplace } from "./workplace.js";

/** The result of an attempt. */
export interface Verdict {
  readonly attempt: Attempt;
  readonly seen: Observation;
  readonly problems: readonly Problem[];
}

export interface RunOptions {
  /** Contains `base` and `canary`, which no attempt may change, and one directory per attempt. */
  readonly scratch: string;
  /** The command that runs nextvlad. */
  readonly program: readonly string[];
  readonly limits?: Limits;
}

const SAMPLE_MS = 25;
/** A command that exceeds the memory limit by this factor is killed, to protect the machine. */
const KILL_FACTOR = 2;
const MAX_OUTPUT_BYTES = 1 << 24;
/** How long the other processes of a command's group may run after it exits. */
const GRACE_MS = 500;

/** Writes an attempt's inputs, runs its command and judges the result. */
export async function runAttempt(attempt: Attempt, number: number, { scratch, program, limits = LIMITS }: RunOptions): Promise<Verdict> {
  const directory = join(scratch, String(number).padStart(3, "0"));
  mkdirSync(directory, { recursive: true });
  const place = new Workplace(directory);
  try {
    await attempt.prepare?.(place);
    const inDirectory = (names: readonly string[]): string[] => names.map((name) => join(directory, name));
    const look = () =>
      lookAtFiles(
        scratch,
        ["base", "canary"].map((name) => join(scratch, name)).concat(directory),
        inDirectory(attempt.targets ?? ["out"]),
        inDirectory(attempt.keeps ?? []),
      );
    const before = look();
    const ended = await runCommand(attempt, directory, program, limits);
    const changes = compareFiles(before, look());
    const seen = {
      ...ended,
      changes,
      logs: readLogs(directory),
      isBelowNode: attempt.mayKillNode === true && !nodeRuns(attempt, directory),
    };
    return { attempt, seen, problems: judge(attempt, seen, limits) };
  } catch (error) {
    throw new Error(`${titleOf(attempt)}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  } finally {
    place.close();
    // Node's rmSync fails on directories nested this deep.
    spawnSync("rm", ["-rf", directory]);
  }
}

/** Process trees to kill when this process exits. */
const running = new Set<ProcessTree>();
process.on("exit", () => {
  for (const tree of running) tree.kill();
});

type Ended = Omit<Observation, "changes" | "logs" | "isBelowNode">;

async function runCommand(attempt: Attempt, directory: string, program: readonly string[], limits: Limits): Promise<Ended> {
  const startMs = performance.now();
  const child = start(attempt, directory, program);
  const tree = new ProcessTree(child.pid as number);
  running.add(tree);
  const elapsed = (): number => (performance.now() - startMs) / 1000;
  let killedFor: Observation["killedFor"] = null;
  let firstOutputSeconds: number | null = null;
  const kill = (reason: "time" | "memory"): void => {
    killedFor ??= reason;
    tree.kill();
  };
  const timer = setInterval(() => {
    if (tree.sample() > KILL_FACTOR * limits.memoryBytes) kill("memory");
    else if (elapsed() > limits.seconds) kill("time");
  }, SAMPLE_MS);
  const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    stream?.on("data", (chunk: Buffer) => {
      firstOutputSeconds ??= elapsed();
      bytes += chunk.length;
      if (bytes <= MAX_OUTPUT_BYTES) chunks.push(chunk);
    });
    return chunks;
  }) as [Buffer[], Buffer[]];
  sendSignals(attempt, child, [stdout, stderr]);
  const status = await new Promise<ExitStatus>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? (signal as NodeJS.Signals)));
  });
  const seconds = elapsed();
  clearInterval(timer);
  const leftRunning = await tree.waitForEnd(GRACE_MS);
  tree.kill();
  running.delete(tree);
  // Drain the pipes: a killed command may leave unread output.
  await Promise.race([new Promise((resolve) => child.once("close", resolve)), sleep(GRACE_MS)]);
  const peakBytes = tree.peakBytes;
  const output = { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
  return { status, seconds, peakBytes, killedFor, firstOutputSeconds, leftRunning: killedFor === null ? leftRunning : 0, ...output };
}

function start({ args, shell, stdin, environment = {} }: Attempt, directory: string, program: readonly string[]): ChildProcess {
  const command = [...program, ...args];
  const [file = "", ...rest] = shell === undefined ? command : ["bash", "-c", shell, "bash", ...command];
  const own = { HOME: join(directory, "home"), TMPDIR: join(directory, "tmp"), NODE_OPTIONS: undefined, NEXTVLAD_DEBUG: undefined };
  // Run the command in its own process group, so that its descendants can be found and killed.
  const child = spawn(file, rest, { cwd: directory, env: { ...process.env, ...own, ...environment }, detached: true });
  // A command that does not read its input closes the pipe.
  child.stdin?.on("error", () => undefined).end(stdin ?? "");
  return child;
}

function sendSignals({ signals = [] }: Attempt, child: ChildProcess, output: readonly (readonly Buffer[])[]): void {
  for (const { name, afterMs, when } of signals) {
    const send = async (): Promise<void> => {
      await sleep(afterMs);
      if (child.exitCode === null && child.signalCode === null) child.kill(name);
    };
    if (when === undefined) {
      void send();
      continue;
    }
    let isSent = false;
    const look = (): void => {
      if (isSent || !output.some((chunks) => when.test(Buffer.concat(chunks).toString()))) return;
      isSent = true;
      void send();
    };
    child.stdout?.on("data", look);
    child.stderr?.on("data", look);
  }
}

/** Returns whether plain Node runs under the limits set by the attempt's shell command. */
function nodeRuns({ shell = '"$@"', environment }: Attempt, directory: string): boolean {
  const options = { cwd: directory, env: { ...process.env, ...environment }, timeout: 10_000, stdio: "ignore" as const };
  return spawnSync("bash", ["-c", shell, "bash", process.execPath, "-e", NODE_ALONE], options).status === 0;
}

/** Starts a worker thread, as every command that reads shards does. */
const NODE_ALONE = `new (require("node:worker_threads").Worker)("0", { eval: true })`;

const LOG = /\.(log\.jsonl|corrupt_records\.json)$|nan_batches\.json$/;
const MAX_LOG_DEPTH = 3;

/** Reads the logs and reports in an attempt's directory, recursively. */
function readLogs(directory: string, depth = 0): [string, Uint8Array][] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry): [string, Uint8Array][] => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return depth < MAX_LOG_DEPTH ? readLogs(path, depth + 1) : [];
    return entry.isFile() && LOG.test(entry.name) ? [[entry.name, readFileSync(path)]] : [];
  });
}
