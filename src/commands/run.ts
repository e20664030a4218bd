import { join } from "node:path";
import { reportWaits } from "../base/waiting.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import { prepareFolder, undoFolders } from "./folder.js";
import { watchSignals } from "./signals.js";

/** What a command's work is given: where to tell of itself, and when to stop. */
export interface Run {
  readonly telemetry: Telemetry;
  /** Aborted when the work should finish what it is at, save, and return `stopped: true`. */
  readonly signal: AbortSignal;
  /** Has `save` called whenever someone asks for a snapshot (SIGUSR1). */
  readonly onSaveRequest: (save: () => void) => void;
}

/** What the work came to, and the process's exit code: 0, or 130, 143 and 129 where a signal stopped it. */
export interface RunResult<T> {
  readonly outcome: T;
  readonly exitCode: number;
}

/**
 * Makes the folder, opens the log in it (`logName`), watches for signals, and does the work; puts the log, the bar and the watch away whatever comes.
 * Throws FILE_UNWRITABLE, and what the work throws once the log has it. A command that fails before its first progress leaves no new log and no new folder.
 */
export async function runIn<T extends { readonly stopped: boolean }>(
  folder: string,
  logName: string,
  work: (run: Run) => Promise<T>,
): Promise<RunResult<T>> {
  return undoFolders(folder, () => runInFolder(folder, logName, work));
}

async function runInFolder<T extends { readonly stopped: boolean }>(
  folder: string,
  logName: string,
  work: (run: Run) => Promise<T>,
): Promise<RunResult<T>> {
  await prepareFolder(folder);
  const { createTelemetry } = await import("../telemetry/telemetry.js");
  const telemetry = await createTelemetry({ logFile: join(folder, logName) });
  const watch = watchSignals((message) => telemetry.log.warn(message));
  const restoreReport = reportWaits((line) => telemetry.log.warn(line));
  // Whatever ends the process from now on, a second Ctrl-C too, no bar is left behind.
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
