import { AsyncLocalStorage } from "node:async_hooks";
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { runCommand } from "../../src/commands/process.js";

/** The repository: the nearest folder above the compiled tests with a package.json. */
export const repository = findRepository(dirname(fileURLToPath(import.meta.url)));

function findRepository(folder: string): string {
  return existsSync(join(folder, "package.json")) ? folder : findRepository(dirname(folder));
}

/** The compiled file that belongs to a source file, by its path below src/. */
export function compiled(path: string): string {
  return fileURLToPath(new URL(`../../src/${path}`, import.meta.url));
}

/** What a process left behind. */
export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; one that takes longer than 60 s is killed, and has no exit code then. */
export function runToEnd(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: repository, timeout: 60_000, ...options, stdio: ["ignore", "pipe", "pipe"] });
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", reject);
    child.on("close", (exitCode, signal) =>
      resolve({ exitCode, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
  });
}

/** Runs `nextvlad` as a process of its own: for what the process itself is about, like its environment, its signals or two at a time. */
export function spawnNextvlad(args: readonly string[], options: SpawnOptions = {}): Promise<Ended> {
  return runToEnd(process.execPath, [compiled("nextvlad.cjs"), ...args], options);
}

/** What a run in this process has printed so far. */
interface Printed {
  readonly stdout: string[];
  readonly stderr: string[];
  readonly onPrint: (text: string) => void;
}

/** Which run prints: the test runner writes to the same stdout, at any moment. */
const printing = new AsyncLocalStorage<Printed>();
let lastRun: Promise<unknown> = Promise.resolve();

/**
 * Runs `nextvlad` in this process, one run at a time: Node and TensorFlow start once a test file, which is most of a small run's time.
 * All is as in a process of its own, from the arguments to the exit code and what is printed.
 */
export function runNextvlad(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const run = lastRun.then(() => runHere(args, options));
  lastRun = run.catch(() => undefined);
  return run;
}

interface RunOptions {
  /** Where it runs: the repository, if not given. */
  readonly cwd?: string;
  /** Called with all that is printed, piece by piece. */
  readonly onPrint?: (text: string) => void;
}

async function runHere(args: readonly string[], { cwd = repository, onPrint = () => undefined }: RunOptions): Promise<Ended> {
  catchOutput();
  const { program } = await import("../../src/cli.js");
  const printed: Printed = { stdout: [], stderr: [], onPrint };
  const folder = process.cwd();
  const { argv, exitCode: exitCodeBefore } = process;
  process.chdir(cwd);
  process.argv = [process.execPath, compiled("nextvlad.cjs"), ...args];
  process.exitCode = undefined;
  try {
    const exitCode = await printing.run(printed, () => runCommand(program, args));
    return { exitCode, signal: null, stdout: printed.stdout.join(""), stderr: printed.stderr.join("") };
  } finally {
    process.exitCode = exitCodeBefore;
    process.argv = argv;
    process.chdir(folder);
  }
}

let isCaught = false;

/** From now on, what a run prints goes to that run. */
function catchOutput(): void {
  if (isCaught) return;
  isCaught = true;
  for (const name of ["stdout", "stderr"] as const) {
    const stream = process[name];
    const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
    stream.write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      const printed = printing.getStore();
      if (printed === undefined) return write(chunk, ...rest);
      printed[name].push(chunk.toString());
      printed.onPrint(chunk.toString());
      const done = rest.at(-1);
      if (typeof done === "function") queueMicrotask(() => done(null));
      return true;
    };
  }
}

/**
 * Runs `nextvlad` in this process, and once it has said `words` sends a signal by the event that Node makes of one: that way, what the run's handler
 * prints is known to be the run's. Calls `then` after that.
 */
export async function signalNextvlad(args: readonly string[], words: string, signal: NodeJS.Signals, then: () => void = () => undefined) {
  let output = "";
  let acted = false;
  const onPrint = (text: string): void => {
    output += text;
    if (acted || !output.includes(words)) return;
    acted = true;
    setImmediate(() => {
      process.emit(signal, signal);
      then();
    });
  };
  const { exitCode } = await runNextvlad(args, { onPrint });
  return { exitCode, output };
}

/** Starts `nextvlad` in a process of its own and calls `act` with it once it has said `words`; resolves when it has ended. */
export async function interruptNextvlad(args: readonly string[], words: string, act: (child: ChildProcess) => void) {
  const child = spawn(process.execPath, [compiled("nextvlad.cjs"), ...args], { timeout: 60_000 });
  let output = "";
  let acted = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (acted || !output.includes(words)) return;
      acted = true;
      act(child);
    });
  }
  const [exitCode, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { exitCode, signal, output };
}

/** A folder that lasts as long as the test. */
export function scratch(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
