import { writeFileSync } from "node:fs";
import { NextvladError } from "../../src/base/errors.js";
import type { Target } from "./target.js";

/** What an input may take: no more than this is allowed of time, or of memory of the process that parses it. */
export const LIMITS = { timeMs: 1000, memoryBytes: 512 * 2 ** 20 } as const;

/** What became of an input, with the first reader of its last form: the code that it was rejected with, or "accepted"; and what was wrong with any, if anything was. */
export interface Judgement {
  readonly outcome: string;
  /** Of the slowest reader: on the clock or of the processors, whichever is less, as the machine has others to serve. */
  readonly timeMs: number;
  readonly finding: string | null;
}

/** The input is whole and can be read, so these would hide something else. */
const UNTRUE_CODES: ReadonlySet<string> = new Set(["FILE_MISSING", "FILE_UNREADABLE", "WORKER_DIED"]);
/** A busy machine, or its collector of garbage, may take a second: what is slow is slow three times. */
const ATTEMPTS = 3;

/** Has an input parsed in all its forms by all readers of a target. `file` is a place for it. */
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
        if (!(error instanceof NextvladError) || UNTRUE_CODES.has(error.code)) finding ??= describe(error);
      }
      const { user, system } = process.cpuUsage(before);
      timeMs = Math.max(timeMs, Math.min(performance.now() - start, (user + system) / 1000));
    }
  }
  return { outcome, timeMs, finding };
}

/** An error with the first lines of its stack, or of its cause's. */
export function describe(error: unknown): string {
  const told = error instanceof NextvladError && error.cause instanceof Error ? error.cause : error;
  const lines = told instanceof Error ? (told.stack ?? told.message).split("\n").slice(0, 5) : [String(told)];
  return lines.map((line) => line.trim().slice(0, 200)).join("\n");
}
