import { AsyncLocalStorage } from "node:async_hooks";
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCommand } from "../../src/commands/process.js";

/** The repository: the closest parent folder of the compiled tests with a package.json. */
export const repository = findRepository(dirname(fileURLToPath(import.meta.url)));

function findRepository(folder: string): string {
  return existsSync(join(folder, "package.json")) ? folder : findRepository(dirname(folder));
}

/** Returns the compiled file of a source file, given by its path below src/. */
export function compiled(path: string): string {
  return fileURLToPath(new URL(`../../src/${path}`, import.meta.url));
}

/** Result of a process. */
export interface CommandResult {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The error on stderr as one line: its `message`. Empty if there is none. */
  readonly error: string;
}

/** Returns the last error that the CLI printed, as its message: `a.tfrecord, record 3: the checksum does not match. Download it again.` */
function errorIn(stderr: string): string {
  const lines = stderr.split("\n");
  const start = lines.findLastIndex((line) => /^error\[\w+\]: /.test(line));
  if (start < 0) return "";
  const lineAfter = lines.findIndex((line, i) => i > start && !line.startsWith("  "));
  const details = lines.slice(start + 1, lineAfter);
  const find = (mark: string): string | undefined => details.find((line) => line.startsWith(mark))?.slice(mark.length);
  const [place, remedy] = [find("  --> "), find("  help: ")];
  const problems = details.flatMap((line) => /^ {2}(\d+)\. (.*)$/.exec(line)?.slice(1) ?? []);
  const list = Array.from({ length: problems.length / 2 }, (_, i) => `(${problems[2 * i]}) ${problems[2 * i + 1]}`).join(" ");
  const text = `${place === undefined ? "" : `${place}: `}${lines[start]?.replace(/^error\[\w+\]: /, "")}${list === "" ? "" : `: ${list}`}`;
  const close = (sentence: string): string => (/[.?]$/.test(sentence) ? sentence : `${sentence}.`);
  return close(text) + (remedy === undefined ? "" : ` ${close(remedy.charAt(0).toUpperCase() + remedy.slice(1))}`);
}

/** Runs a program; after 60 s it is killed, and its exit code is null. */
export function runProgram(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: repository, timeout: 60_000, ...options, stdio: ["ignore", "pipe", "pipe"] });
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", reject);
    child.on("close", (exitCode, signal) => {
      const text = Buffer.concat(stderr).toString();
      resolve({ exitCode, signal, stdout: Buffer.concat(stdout).toString(), stderr: text, error: errorIn(text) });
    });
  });
}

/** Runs `nextvlad` in its own process, for tests of its environment, its signals, or two concurrent processes. */
export function spawnNextvlad(args: readonly string[], options: SpawnOptions = {}): Promise<CommandResult> {
  return runProgram(process.execPath, [compiled("nextvlad.cjs"), ...args], options);
}

/** Runs `nextvlad` in its own process, with a terminal of that many columns as stdout; stderr is dropped. */
export async function runInTerminal(args: readonly string[], columns: number): Promise<CommandResult> {
  const words = [process.execPath, compiled("nextvlad.cjs"), ...args].map((word) => `'${word}'`).join(" ");
  const command = `stty cols ${columns}; ${words} 2>/dev/null`;
  const ended = await runProgram("script", ["--quiet", "--return", "--command", command, "/dev/null"]);
  return { ...ended, stdout: ended.stdout.replaceAll("\r\n", "\n") };
}

/** Output of a run in this process so far. */
interface Printed {
  readonly stdout: string[];
  readonly stderr: string[];
  readonly onPrint: (text: string) => void;
}

/** The run that is printing: the test runner writes to the same stdout at any time. */
const printing = new AsyncLocalStorage<Printed>();
let lastRun: Promise<unknown> = Promise.resolve();

/**
 * Runs `nextvlad` in this process, one run at a time: Node and TensorFlow start once per test file, which takes most of the time of a small run.
 * Behaves like a separate process, from the arguments to the exit code and the output.
 */
export function runNextvlad(args: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
  const run = lastRun.then(() => runInProcess(args, options));
  lastRun = run.catch(() => undefined);
  return run;
}

interface RunOptions {
  /** Working directory; by default the repository. */
  readonly cwd?: string;
  /** Called with each piece of output. */
  readonly onPrint?: (text: string) => void;
}

async function runInProcess(args: readonly string[], { cwd = repository, onPrint = () => undefined }: RunOptions): Promise<CommandResult> {
  captureOutput();
  const { program } = await import("../../src/cli.js");
  const printed: Printed = { stdout: [], stderr: [], onPrint };
  const folder = process.cwd();
  const { argv, exitCode: exitCodeBefore } = process;
  process.chdir(cwd);
  process.argv = [process.execPath, compiled("nextvlad.cjs"), ...args];
  process.exitCode = undefined;
  try {
    const exitCode = await printing.run(printed, () => runCommand(program, args));
    const stderr = printed.stderr.join("");
    return { exitCode, signal: null, stdout: printed.stdout.join(""), stderr, error: errorIn(stderr) };
  } finally {
    process.exitCode = exitCodeBefore;
    process.argv = argv;
    process.chdir(folder);
  }
}

let isCaptured = false;

/** Redirects the output of runs in this process to their results. */
function captureOutput(): void {
  if (isCaptured) return;
  isCaptured = true;
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
 * Runs `nextvlad` in this process and, once it has printed `words`, emits Node's event for a signal, so that the output of the run's handler is attributed to
 * the run. Then calls `then`.
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

/** Starts `nextvlad` in its own process and calls `act` with it once it has printed `words`; resolves when it has exited. */
export async function interruptNextvlad(
  args: readonly string[],
  words: string,
  act: (child: ChildProcess) => void,
  env: NodeJS.ProcessEnv = process.env,
) {
  const child = spawn(process.execPath, [compiled("nextvlad.cjs"), ...args], { timeout: 60_000, env });
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
