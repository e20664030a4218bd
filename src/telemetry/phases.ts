import type { Logger } from "pino";

/** Logs, with --verbose, that a phase of the start has ended, and the time since the start of the process. */
export function logPhase(log: Logger, phase: string): void {
  const ms = performance.now();
  log.debug({ since_start_ms: ms }, `${phase}: ${(ms / 1000).toFixed(2)} s after the start`);
}
