import { constants } from "node:os";
import { Writable } from "node:stream";
import { setImmediate, setTimeout } from "node:timers/promises";
import { isatty } from "node:tty";
import type { Command } from "commander";
import { fileError, type NextvladError } from "../base/errors.js";
import { hasRunningThreads, terminateThreads } from "../base/waiting.js";
import { normalizeArguments } from "./arguments.js";
import { formatFailure } from "./failure.js";
import { isReaderGone, printToStderr } from "./output.js";
import { ignoreSignals } from "./signals.js";

/**
 * Runs the program on the process's arguments and returns its exit code. Uncaught errors are printed like others. A failed write to stdout
 * or stderr (a full disk) does not abort the work: the exit code at the end is 1 instead of 0. A reader that exited (`| head`) or a closed terminal is not an
 * error.
 */
export async function runProcess(program: Command, argv: readonly string[]): Promise<number> {
  process.on("uncaughtException", (error: unknown) => {
    const exitCode = reportFailure(error, undefined);
    // The command may keep running until the process exits. Its output is discarded, so that the error is the last line.
    for (const stream of [process.stdout, process.stderr]) stream.write = () => true;
    void leave(exitCode);
  });
  // By default, Node opens the inspector's port at SIGUSR1, which batch systems send to request a save. Commands that support it add their own listener.
  process.on("SIGUSR1", () => undefined);
  let failedOutput: NextvladError | null = null;
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (isReaderGone(error, stream)) return;
      failedOutput ??= fileError(error, stream === process.stdout ? "standard output" : "standard error", "write");
    });
  }
  const exitCode = await runCommand(program, argv.slice(2));
  // The error events of the last writes are emitted in the next iteration of the event loop.
  await setImmediate();
  if (failedOutput === null) return exitCode;
  const failed = reportFailure(failedOutput, undefined);
  return exitCode === 0 ? failed : exitCode;
}

/**
 * Runs the command in the arguments `given` and returns its exit code: the command's own (0, or 130, 143 and 129 after a signal), 1 for an error, 2 for invalid
 * usage or config. Errors are printed on stderr.
 */
export async function runCommand(program: Command, given: readonly string[]): Promise<number> {
  let command: string | undefined;
  try {
    const flagsOf = new Map(program.commands.map((each) => [each.name(), flagsOfCommand(each)]));
    const normalized = normalizeArguments(given, flagsOf);
    command = normalized.command;
    // Resume commands are built from process.argv.
    process.argv.splice(2, process.argv.length, ...normalized.args);
    for (const note of normalized.notes) printToStderr(`note: ${note}`);
    await program.parseAsync(normalized.args, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return reportFailure(error, command);
  }
}

/** Prints an error on stderr and returns the exit code. `command` is the subcommand's name, for a reference to its help. */
function reportFailure(error: unknown, command: string | undefined): number {
  const failure = formatFailure(error, command);
  printToStderr(...failure.lines);
  return failure.exitCode;
}

/** Returns the long flags that a command declares. */
export function flagsOfCommand(command: Command): ReadonlySet<string> {
  return new Set(command.options.flatMap(({ long }) => (long ? [long] : [])));
}

/** Waits until a stream's output is written: process.exit() would discard data that a slow reader has not read yet. */
function flush(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writableLength === 0 || stream.destroyed) return Promise.resolve();
  return new Promise((resolve) => Writable.prototype.write.call(stream, "", "utf8", () => resolve()));
}

/** How long the exit waits for pending reads while the process does not compute, and how often it checks. */
const STUCK_MS = 2000;
const CHECK_MS = 50;
/** CPU time between two checks, in microseconds, from which a thread computes. A check itself takes a tenth of it. */
const COMPUTING_US = 2000;

/** Waits for pending reads and for threads blocked in one, as Node's exit would, but kills the process if one of them never returns. */
async function endStuckReads(exitCode: number): Promise<void> {
  terminateThreads();
  const isReading = (): boolean =>
    hasRunningThreads() || process.getActiveResourcesInfo().some((name) => name === "Worker" || name.startsWith("FSReq"));
  let before = process.cpuUsage();
  for (let waitedMs = 0; isReading(); waitedMs += CHECK_MS) {
    // A thread that loads TensorFlow ends once it is loaded, which takes seconds on a busy machine.
    const { user, system } = process.cpuUsage(before);
    if (user + system > COMPUTING_US) waitedMs = 0;
    before = process.cpuUsage();
    if (waitedMs >= STUCK_MS) {
      printToStderr(`warning: a read never returned (dead disk or mount): killing the process instead of exiting with ${exitCode}`);
      process.kill(process.pid, "SIGKILL");
    }
    await setTimeout(CHECK_MS);
  }
}

/** Evaluated at startup, because isatty() returns false once the terminal has closed. */
const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));

/**
 * Exits the process. Node 20 crashes on exit if its terminal has closed, because it tries to restore the terminal's settings. In that case the process kills
 * itself with SIGHUP, which shells report as the same exit code.
 */
export async function leave(exitCode: number): Promise<never> {
  const signalled = ignoreSignals();
  // If the reader does not read, like a pager, this waits until the next signal.
  await Promise.race([Promise.all([flush(process.stdout), flush(process.stderr)]), signalled]);
  await endStuckReads(exitCode);
  if (hasTerminal && exitCode === 128 + constants.signals.SIGHUP) {
    process.removeAllListeners("SIGHUP");
    process.kill(process.pid, "SIGHUP");
  }
  process.exit(exitCode);
}
