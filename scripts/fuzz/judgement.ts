import { writeFileSync } from "node:fs";
import { NextvladError } from "../../src/base/errors.js";
import type { Target } from "./target.js";

/** Maximum time per input, and maximum memory of the process that parses it. */
export const LIMITS = { timeMs: 1000, memoryBytes: 512 * 2 ** 20 } as const;

/** Result of an input. `outcome` is that of the first reader on the last form: the error code, or "accepted". `finding` covers all readers and forms. */
export interface Judgement {
  readonly outcome: string;
  /** Time of the slowest reader: wall time or CPU time, whichever is less, because other processes may slow down the machine. */
  readonly timeMs: number;
  readonly finding: string | null;
}

/** Codes that count as findings: the input file exists and is readable, so these errors would hide another cause. */
const UNEXPECTED_CODES: ReadonlySet<string> = new Set(["FILE_MISSING", "FILE_UNREADABLE", "WORKER_DIED"]);
/** Attempts that must all exceed the time limit: a busy machine or a garbage collection may take a second. */
const ATTEMPTS = 3;

/** Parses an input in all forms with all readers of a target. The input is written to `file`. */
export async function judge(target: Target, bytes: Uint8Array, file: string): Promise<Judgement> {
  let judgement = await parse(target, bytes, file);
  for (let attempt = 1; attempt < ATTEMPTS && judgement.timeMs > LIMITS.timeMs; attempt++) {
    const again = await parse(target, bytes, file);
    if (again.timeMs < judgement.timeMs) judgement = again;
  }
  if (judgement.finding !== null) return judgement;
  if (judgement.timeMs > LIMITS.timeMs) return { ...judgement, finding: `it took ${Math.round(judgement.timeMs)} ms` };
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  if (peakBytes > LIMITS.memoryBytes) return { ...judgement, finding: `the process took ${Math.round(peakBytes / 2 ** 20)} MB` };
  return judgement;
}

async function parse({ readers, forms = (bytes) => [bytes] }: Target, bytes: Uint8Array, file: string): Promise<Judgement> {
  let outcome = "accepted";
  let finding: string | null = null;
  let timeMs = 0;
  for (const form of forms(bytes)) {
    outcome = "accepted";
    writeFileSync(file, form);
    for (const read of readers) {
      const start = performance.now();
      const before = process.cpuUsage();
      try {
        await read(file, form);
      } catch (error) {
        if (error instanceof NextvladError && read === readers[0]) outcome = error.code;
        if (!(error instanceof NextvladError) || UNEXPECTED_CODES.has(error.code)) finding ??= describeError(error);
      }
      const { user, system } = process.cpuUsage(before);
      timeMs = Math.max(timeMs, Math.min(performance.now() - start, (user + system) / 1000));
    }
  }
  return { outcome, timeMs, finding };
}

/** Describes an error by the first lines of its stack, or of the stack of its cause. */
export function describeError(error: unknown): string {
  const cause = error instanceof NextvladError && error.cause instanceof Error ? error.cause : error;
  const lines = cause instanceof Error ? (cause.stack ?? cause.message).split("\n").slice(0, 5) : [String(cause)];
  return lines.map((line) => line.trim().slice(0, 200)).join("\n");
}
