import { isUtf8 } from "node:buffer";
import { ANY_EXIT, type Attempt, type ExitStatus } from "./attempt.js";

/** What a command may take. A line of stderr is a message, which nobody reads beyond a few screens. */
export const LIMITS = { seconds: 30, memoryBytes: 1.5e9, firstOutputSeconds: 5, lineBytes: 1 << 14 } as const;

export type Limits = { readonly [K in keyof typeof LIMITS]: number };

/** What was seen of a command. */
export interface Observation {
  readonly status: ExitStatus;
  readonly seconds: number;
  readonly peakBytes: number;
  /** Why it had to be killed, if it had. */
  readonly killedFor: "time" | "memory" | null;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  /** Logs and reports that it wrote, by name. */
  readonly logs: readonly (readonly [name: string, content: Uint8Array])[];
  /** Files that changed outside the targets, and how. */
  readonly changes: readonly string[];
  /** When it first said something; null for never. */
  readonly firstOutputSeconds: number | null;
  /** Processes that it left running. */
  readonly leftRunning: number;
  /** Node itself does not run under the attempt's limits. */
  readonly isBelowNode: boolean;
}

/** What can be wrong. */
export const FAULTS = [
  "hang",
  "memory",
  "escape",
  "signal",
  "outside",
  "trace",
  "exit code",
  "silence",
  "long line",
  "left running",
] as const;

export type Fault = (typeof FAULTS)[number];

export interface Problem {
  readonly fault: Fault;
  readonly detail: string;
}

/** Judges a command by what was seen of it; no problem means that it passed. */
export function judge(attempt: Attempt, seen: Observation, limits: Limits = LIMITS): readonly Problem[] {
  const problems: Problem[] = [];
  const add = (fault: Fault, detail: string): void => void problems.push({ fault, detail });
  const isHung = seen.killedFor === "time" || seen.seconds > limits.seconds;
  if (isHung) add("hang", `still running after ${limits.seconds} s`);
  if (seen.peakBytes > limits.memoryBytes) add("memory", `${Math.round(seen.peakBytes / 1e6)} MB`);
  const exits = attempt.exits ?? ANY_EXIT;
  if (seen.killedFor === null && !exits.includes(seen.status) && !seen.isBelowNode) {
    if (typeof seen.status === "string") add("signal", `killed by ${seen.status}`);
    else add("exit code", `${seen.status}, expected ${exits.join(" or ")}`);
  }
  for (const [name, bytes] of [["stdout", seen.stdout] as const, ["stderr", seen.stderr] as const, ...seen.logs]) {
    const raw = findRawCharacter(bytes);
    if (raw !== null) add("escape", `${raw} in ${name}`);
  }
  for (const change of seen.changes) add("outside", change);
  // Under limits that Node cannot run with, its last words are its own.
  const text = seen.isBelowNode ? "" : Buffer.concat([seen.stdout, seen.stderr]).toString("latin1");
  const trace = TRACE.exec(text);
  if (trace !== null) add("trace", trace[0].trim().slice(0, 120));
  if (attempt.mayWait && (seen.firstOutputSeconds ?? seen.seconds) > limits.firstOutputSeconds) {
    add("silence", `no output in the first ${limits.firstOutputSeconds} s`);
  }
  const longest = longestLine(seen.stderr);
  if (longest > limits.lineBytes) add("long line", `${longest} bytes in a line of stderr`);
  if (seen.leftRunning > 0) add("left running", `${seen.leftRunning} processes`);
  return problems;
}

/** A frame of a stack, or words for an error that nobody expected. */
const TRACE = /^ +at (?:.+ \()?(?:file:|node:|\/)\S*:\d+:\d+\)?$|internal error|\[object Object\]|FATAL ERROR|^node:internal\/.*$/m;

/** Control characters (C0 but tab and newline, DEL, C1), line and paragraph separators, and the invisible marks and overrides of text direction. */
const RAW = /(?![\n\t])[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

/** Names the first character that a terminal may obey; null for none. */
export function findRawCharacter(bytes: Uint8Array): string | null {
  if (!isUtf8(bytes)) return "invalid UTF-8";
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  const found = RAW.exec(text);
  if (found === null) return null;
  const around = text.slice(Math.max(0, found.index - 30), found.index + 30);
  return `U+${found[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")} (${JSON.stringify(around)})`;
}

function longestLine(bytes: Uint8Array): number {
  let [longest, start] = [0, 0];
  for (let end = bytes.indexOf(0x0a); start < bytes.length; end = bytes.indexOf(0x0a, start)) {
    const stop = end === -1 ? bytes.length : end;
    longest = Math.max(longest, stop - start);
    start = stop + 1;
  }
  return longest;
}
