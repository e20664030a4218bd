import { join } from "node:path";
import { reportWaits } from "../base/waiting.js";
import { logPhase } from "../telemetry/phases.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import { prepareDirectory, removeDirectoriesOnError } from "./output-directory.js";
import { watchSignals } from "./signals.js";

/** What a command's work receives: telemetry, and requests to stop or save. */
export interface Run {
  readonly telemetry: Telemetry;
  /** Aborted when the work should finish the current step, save, and return `stopped: true`. */
  readonly signal: AbortSignal;
  /** Registers `save` to be called when a snapshot is requested (SIGUSR1). */
  readonly onSaveRequest: (save: () => void) => void;
}

/** The log of a command: its file's name in the directory, whether the terminal shows only warnings, and whether details are logged. */
export interface LogOptions {
  readonly name: string;
  readonly quiet?: boolean | undefined;
  readonly verbose?: boolean | undefined;
}

/** Result of the work, and the process's exit code: 0, or 130, 143 and 129 if a signal stopped it. */
export interface RunResult<T> {
  readonly outcome: T;
  readonly exitCode: number;
}

/**
 * Creates the directory, opens the log in it (`log`), handles signals, and runs `work`; always closes the log, the progress bar and the signal handlers.
 * Throws FILE_UNWRITABLE, and rethrows errors of `work` after logging them. A command that fails before its first progress leaves no new log or directory.
 */
export async function runIn<T extends { readonly stopped: boolean }>(
  directory: string,
  log: LogOptions,
  work: (run: Run) => Promise<T>,
): Promise<RunResult<T>> {
  return removeDirectoriesOnError(directory, () => runInDirectory(directory, log, work));
}

async function runInDirectory<T extends { readonly stopped: boolean }>(
  directory: string,
  { name, quiet = false, verbose = false }: LogOptions,
  work: (run: Run) => Promise<T>,
): Promise<RunResult<T>> {
  await prepareDirectory(directory);
  const { createTelemetry } = await import("../telemetry/telemetry.js");
  const telemetry = await createTelemetry({ logFile: join(directory, name), quiet, verbose });
  logPhase(telemetry.log, "flags, config and shards checked");
  const watch = watchSignals((message) => telemetry.log.warn(message));
  const restoreReport = reportWaits((line) => telemetry.log.warn(line));
  // Removes the progress bar at the first signal, because a second one ends the process immediately.
  watch.signal.addEventListener("abort", () => telemetry.progress.end(), { once: true });
  try {
    const outcome = await work({ telemetry, signal: watch.signal, onSaveRequest: watch.onSaveRequest });
    await telemetry.close();
    return { outcome, exitCode: outcome.stopped ? watch.exitCode() : 0 };
  } catch (error) {
    await telemetry.close(error);
    throw error;
  } finally {
    restoreReport();
    watch.end();
  }
}
