import { isUtf8 } from "node:buffer";
import { ANY_EXIT, type Attempt, type ExitStatus } from "./attempt.js";

/** Limits of a command. Lines of stderr are messages for users, so their length is limited to a few screens. */
export const LIMITS = { seconds: 30, memoryBytes: 1.5e9, firstOutputSeconds: 5, lineBytes: 1 << 14 } as const;

export type Limits = { readonly [K in keyof typeof LIMITS]: number };

/** What was observed of a command. */
export interface Observation {
  readonly status: ExitStatus;
  readonly seconds: number;
  readonly peakBytes: number;
  /** Why the command was killed; null if it was not. */
  readonly killedFor: "time" | "memory" | null;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  /** Logs and reports that the command wrote, by name. */
  readonly logs: readonly (readonly [name: string, content: Uint8Array])[];
  /** Files that changed outside the targets, and how. */
  readonly changes: readonly string[];
  /** Time of the first output; null if there was none. */
  readonly firstOutputSeconds: number | null;
  /** Number of processes still running after the command exited. */
  readonly leftRunning: number;
  /** Whether Node itself fails to run under the attempt's limits. */
  readonly isBelowNode: boolean;
}

/** Kinds of faults. */
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

/** Returns the problems found in an observation; empty if the attempt passed. */
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
  // If Node itself fails under the limits, its stack trace is not ours.
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

/** A stack frame, or the text of an unexpected error. */
const TRACE = /^ +at (?:.+ \()?(?:file:|node:|\/)\S*:\d+:\d+\)?$|error\[INTERNAL\]|\[object Object\]|FATAL ERROR|^node:internal\/.*$/m;

/** Control characters (C0 except tab and newline, DEL, C1), line and paragraph separators, and invisible text direction marks and overrides. */
const RAW = /(?![\n\t])[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

/** Describes the first character that a terminal may interpret, or invalid UTF-8. Returns null if there is none. */
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
