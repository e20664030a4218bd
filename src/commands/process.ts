import { constants } from "node:os";
import { Writable } from "node:stream";
import { setImmediate, setTimeout } from "node:timers/promises";
import { isatty } from "node:tty";
import type { Command } from "commander";
import { fileError, type NextvladError } from "../base/errors.js";
import { hasRunningThreads, terminateThreads } from "../base/waiting.js";
import { normaliseArguments } from "./arguments.js";
import { describeFailure } from "./failure.js";
import { isReaderGone, printToStderr } from "./output.js";
import { outlastSignals } from "./signals.js";

/**
 * Runs the program on the process's arguments and returns its exit code. Errors that nothing catches become one paragraph on stderr too. A failed write to
 * stdout or stderr (a full disk) does not end the work: the exit code is 1 instead of 0 at the end. A reader that exited (`| head`) or a terminal that
 * closed is no error.
 */
export async function runProcess(program: Command, argv: readonly string[]): Promise<number> {
  process.on("uncaughtException", (error: unknown) => {
    const exitCode = reportFailure(error, undefined);
    // Until the process has ended, the command may go on. What it prints then is dropped: the error is its last line.
    for (const stream of [process.stdout, process.stderr]) stream.write = () => true;
    void leave(exitCode);
  });
  // Left alone, Node opens a debugger's port at this signal; batch systems send it to have work saved. Commands that can do that listen too.
  process.on("SIGUSR1", () => undefined);
  let failedOutput: NextvladError | null = null;
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (isReaderGone(error, stream)) return;
      failedOutput ??= fileError(error, stream === process.stdout ? "standard output" : "standard error", "write");
    });
  }
  const exitCode = await runCommand(program, argv.slice(2));
  // The error events of the last writes come in the next turn of the event loop.
  await setImmediate();
  if (failedOutput === null) return exitCode;
  const failed = reportFailure(failedOutput, undefined);
  return exitCode === 0 ? failed : exitCode;
}

/**
 * Runs the command that `given` arguments name and returns the exit code: what the command chose (0, or 130, 143 and 129 after a signal), 1 for a failure,
 * 2 for bad usage or config. Errors become one paragraph on stderr.
 */
export async function runCommand(program: Command, given: readonly string[]): Promise<number> {
  let command: string | undefined;
  try {
    const flagsOf = new Map(program.commands.map((each) => [each.name(), flagsOfCommand(each)]));
    const normalised = normaliseArguments(given, flagsOf);
    command = normalised.command;
    // The commands that resume a run are made of these.
    process.argv.splice(2, process.argv.length, ...normalised.args);
    for (const note of normalised.notes) printToStderr(`nextvlad: note: ${note}`);
    await program.parseAsync(normalised.args, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return reportFailure(error, command);
  }
}

/** Prints one paragraph on stderr and returns the exit code. `command` is the subcommand's name, to point at its help. */
function reportFailure(error: unknown, command: string | undefined): number {
  const failure = describeFailure(error, command);
  printToStderr(...failure.lines);
  return failure.exitCode;
}

/** The long flags that a command declares. */
export function flagsOfCommand(command: Command): ReadonlySet<string> {
  return new Set(command.options.flatMap(({ long }) => (long ? [long] : [])));
}

/** Waits until a stream's output is written: process.exit() would discard what a slow reader has not taken. */
function flush(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writableLength === 0 || stream.destroyed) return Promise.resolve();
  return new Promise((resolve) => Writable.prototype.write.call(stream, "", "utf8", () => resolve()));
}

/** How long the end of the process waits for reads in progress, and how often it checks. */
const STUCK_MS = 2000;
const CHECK_MS = 50;

/** Node's exit waits for reads in progress and for threads that are in one. Kills the process if one of them never returns. */
async function endStuckReads(exitCode: number): Promise<void> {
  terminateThreads();
  const isReading = (): boolean =>
    hasRunningThreads() || process.getActiveResourcesInfo().some((name) => name === "Worker" || name.startsWith("FSReq"));
  for (let waitedMs = 0; isReading(); waitedMs += CHECK_MS) {
    if (waitedMs >= STUCK_MS) {
      printToStderr(`nextvlad: warning: a read never returned (dead disk or mount): killing the process, instead of exit code ${exitCode}`);
      process.kill(process.pid, "SIGKILL");
    }
    await setTimeout(CHECK_MS);
  }
}

/** Asked at the start: a terminal that has closed is none any more. */
const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));

/**
 * Ends the process. Node 20 crashes at its exit where its terminal has closed (it insists on setting it back as it was): there, the signal that
 * tells of a closed terminal ends the process instead, which shells report by the same number.
 */
export async function leave(exitCode: number): Promise<never> {
  const signalled = outlastSignals();
  // A reader that takes nothing, like a pager, is waited for until the next signal.
  await Promise.race([Promise.all([flush(process.stdout), flush(process.stderr)]), signalled]);
  await endStuckReads(exitCode);
  if (hasTerminal && exitCode === 128 + constants.signals.SIGHUP) {
    process.removeAllListeners("SIGHUP");
    process.kill(process.pid, "SIGHUP");
  }
  process.exit(exitCode);
}
