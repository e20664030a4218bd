import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("../nextvlad.cjs", import.meta.url));

/** How a process has ended. */
export interface ProcessExit {
  /** Its exit code; 128 + the signal's number if a signal killed it. */
  readonly code: number;
  readonly signal: NodeJS.Signals | null;
}

/** Starts this program with other arguments, and with the options that Node.js itself was started with. */
export function startProgram(args: readonly string[], options: SpawnOptions): ChildProcess {
  return spawn(process.execPath, [...process.execArgv, PROGRAM, ...args], options);
}

/** Waits until a process has ended and its output is closed. Throws the system's error if it could not be started. */
export async function waitForExit(child: ChildProcess): Promise<ProcessExit> {
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]), signal };
}
