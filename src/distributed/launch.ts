import type { ChildProcess, StdioOptions } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { type ProcessExit, startProgram, waitForExit } from "../base/child-process.js";
import { NextvladError } from "../base/errors.js";
import { setupCommand } from "../base/package.js";
import { SIGNAL_ECHO_MS } from "../base/processes.js";
import { TF_CONFIG } from "./cluster.js";

/** The address at which the ranks of one host listen: TensorFlow's server has no authentication, so it must not be reachable from other hosts. */
const LOOPBACK = "127.0.0.1";
/** Makes TensorFlow's server listen at that address only (scripts/tensorflow/loopback.cc). */
const LOOPBACK_LIBRARY = fileURLToPath(new URL("../../../.native/current/loopback.so", import.meta.url));

/** After another rank has failed, rank 0 fails too if it exchanges something; if not, it is asked to stop, and then killed. */
const STOP_MS = 2000;
const KILL_MS = 15_000;
/** Time that the others have to exit after rank 0 has exited. */
const OTHERS_MS = 5000;
/** Maximum length of the end of a rank's output that is printed if it fails, in characters. */
const MAX_OUTPUT = 16_384;

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"] as const;

/** How the ranks of one host run. */
export interface LaunchOptions {
  readonly count: number;
  /** The GPU of each rank; empty on the CPU. */
  readonly gpus: readonly string[];
  /** Number of threads of each rank; null if an argument sets it. */
  readonly threads: number | null;
  /** Arguments to add to those of this process. */
  readonly added: readonly string[];
  /** Prints lines on standard error. */
  readonly print: (...lines: readonly string[]) => void;
}

/**
 * Runs this process's command once per rank, each with its own device. Rank 0 has this process's standard input and output; of the others, only the output of the
 * first one that fails is printed. Signals are forwarded to rank 0; a second one kills all. If a rank fails, stops the others. Returns the exit code of the first
 * rank that fails, else 0. Throws NOT_SET_UP.
 */
export async function launchRanks({ count, gpus, threads, added, print }: LaunchOptions): Promise<number> {
  assertPreloadable(LOOPBACK_LIBRARY);
  const ports = await findFreePorts(count);
  const worker = ports.map((port) => `${LOOPBACK}:${port}`);
  const ranks = worker.map((_, rank) =>
    startRank(rank, added, {
      ...process.env,
      [TF_CONFIG]: JSON.stringify({ cluster: { worker }, task: { type: "worker", index: rank } }),
      LD_PRELOAD: [LOOPBACK_LIBRARY, process.env.LD_PRELOAD].filter(Boolean).join(":"),
      ...(gpus.length === 0 ? {} : { CUDA_VISIBLE_DEVICES: gpus[rank] }),
      ...(threads === null ? {} : { OMP_NUM_THREADS: String(threads) }),
    }),
  );
  const [first] = ranks as [Rank];
  let requestedMs: number | null = null;
  const forward = (name: NodeJS.Signals): void => {
    const isRepeated = requestedMs !== null && performance.now() - requestedMs > SIGNAL_ECHO_MS;
    if (name !== "SIGUSR1") requestedMs ??= performance.now();
    // While a rank waits for another one, it handles no signal.
    if (isRepeated) for (const rank of ranks) rank.process.kill("SIGKILL");
    else first.process.kill(name);
  };
  for (const name of FORWARDED) process.on(name, forward);
  const timers: NodeJS.Timeout[] = [];
  const kill = (victims: readonly Rank[], name: NodeJS.Signals, ms: number): void => {
    const killAll = (): void => {
      for (const victim of victims) victim.process.kill(name);
    };
    timers.push(setTimeout(killAll, ms));
  };
  const exits: Exit[] = [];
  const onExit = (exit: Exit): void => {
    exits.push(exit);
    if (exit.rank === 0) kill(ranks.slice(1), "SIGKILL", OTHERS_MS);
    else if (exit.code !== 0) {
      kill([first], "SIGTERM", STOP_MS);
      kill([first], "SIGKILL", KILL_MS);
    }
  };
  await Promise.all(ranks.map(async (rank) => onExit(await rank.exited)));
  for (const timer of timers) clearTimeout(timer);
  for (const name of FORWARDED) process.off(name, forward);
  // How the others end after rank 0 has finished does not matter: it has written everything.
  const { rank, code, signal } = exits.find((exit) => exit.code !== 0 || exit.rank === 0) as Exit;
  if (rank > 0) print(...(ranks[rank] as Rank).output().split("\n").filter(Boolean));
  if (rank > 0 || signal !== null) print(`rank ${rank} ${describeExit(code, signal)} first`);
  return code;
}

/** How a rank has ended. */
interface Exit extends ProcessExit {
  readonly rank: number;
}

interface Rank {
  readonly process: ChildProcess;
  readonly exited: Promise<Exit>;
  /** Returns the end of its standard error; empty for rank 0, whose output is not captured. */
  output(): string;
}

function startRank(rank: number, added: readonly string[], env: NodeJS.ProcessEnv): Rank {
  const stdio: StdioOptions = rank === 0 ? "inherit" : ["ignore", "ignore", "pipe"];
  const child = startProgram([...process.argv.slice(2), ...added], { env, stdio });
  let output = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output = (output + text).slice(-MAX_OUTPUT);
  });
  const exited = waitForExit(child).then((exit) => ({ rank, ...exit }));
  return { process: child, exited, output: () => output };
}

function describeExit(code: number, signal: NodeJS.Signals | null): string {
  return signal === null ? `failed with exit code ${code}` : `was killed by ${signal}`;
}

/** Throws NOT_SET_UP if a library cannot be preloaded: the dynamic linker would only warn, and the server would listen on all interfaces. */
function assertPreloadable(file: string): void {
  const place = { file, remedy: `run: ${setupCommand()}` };
  if (!existsSync(file)) throw new NextvladError("NOT_SET_UP", "the library that limits connections to this host is missing", place);
  if (!/[\s:]/.test(file)) return;
  const remedy = "install nextvlad in a directory without them";
  throw new NextvladError("NOT_SET_UP", "several processes cannot start from a path with spaces or colons (LD_PRELOAD)", { file, remedy });
}

/** Returns ports of the loopback interface that nothing listens at. */
async function findFreePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, LOOPBACK);
      await once(server, "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { readonly port: number }).port);
  await Promise.all(
    servers.map(async (server) => {
      server.close();
      await once(server, "close");
    }),
  );
  return ports;
}
