import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describeCommand, KINDS, titleOf } from "./attempt.js";
import { FAULTS, type Fault } from "./judge.js";
import type { Verdict } from "./runner.js";

const COLUMNS: readonly (readonly [heading: string, faults: readonly Fault[]])[] = [
  ["hangs", ["hang", "silence"]],
  ["over memory", ["memory"]],
  ["raw escapes", ["escape"]],
  ["signals", ["signal"]],
  ["changes outside", ["outside"]],
  ["traces", ["trace"]],
  ["exit codes", ["exit code"]],
  ["other", ["long line", "left running"]],
];

/** Formats a Markdown table with one row per kind, followed by the failed attempts. */
export function formatReport(verdicts: readonly Verdict[], skipped: number): string {
  const kinds = KINDS.filter((kind) => verdicts.some(({ attempt }) => attempt.kind === kind));
  const rows = [
    ...kinds.map((kind) =>
      row(
        kind,
        verdicts.filter(({ attempt }) => attempt.kind === kind),
      ),
    ),
    row("all", verdicts),
  ];
  const headings = ["kind", "attempts", "passed", ...COLUMNS.map(([heading]) => heading), "slowest", "peak memory"];
  const table = [headings, headings.map((_, i) => (i === 0 ? "---" : "--:")), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  const failed = verdicts.filter(({ problems }) => problems.length > 0);
  const unable = skipped === 0 ? "" : `, ${skipped} skipped (they need root to mount file systems or create device nodes)`;
  const summary = `${verdicts.length} attempts, ${failed.length} failed${unable}`;
  return [...table, "", summary, ...failed.map(formatFailure), ""].join("\n");
}

function row(name: string, verdicts: readonly Verdict[]): readonly string[] {
  const count = (faults: readonly Fault[]): number =>
    verdicts.filter(({ problems }) => problems.some(({ fault }) => faults.includes(fault))).length;
  const slowest = Math.max(0, ...verdicts.map(({ seen }) => seen.seconds));
  const peak = Math.max(0, ...verdicts.map(({ seen }) => seen.peakBytes));
  const passed = verdicts.filter(({ problems }) => problems.length === 0).length;
  const counts = [verdicts.length, passed, ...COLUMNS.map(([, faults]) => count(faults))];
  return [name, ...counts.map(String), `${slowest.toFixed(1)} s`, megabytes(peak)];
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

function formatFailure({ attempt, problems }: Verdict): string {
  const found = problems.map(({ fault, detail }) => `  ${fault}: ${escapeText(detail)}`);
  return [`\n${titleOf(attempt)}`, `  ${describeCommand(attempt)}`, ...new Set(found)].join("\n");
}

/** Writes `report.tsv`, with one line per attempt, and `failures.txt`, with the output of failed attempts. */
export function writeReport(directory: string, verdicts: readonly Verdict[]): void {
  mkdirSync(directory, { recursive: true });
  const headings = ["kind", "attempt", "verdict", "exit", "seconds", "MB", "command", ...FAULTS];
  const lines = verdicts.map(({ attempt, seen, problems }) => {
    const verdict = problems.length === 0 ? "passed" : "failed";
    const details = FAULTS.map((fault) => problems.find((problem) => problem.fault === fault)?.detail ?? "");
    const numbers = [seen.status, seen.seconds.toFixed(1), (seen.peakBytes / 1e6).toFixed(0)];
    return [attempt.kind, attempt.name, verdict, ...numbers, describeCommand(attempt), ...details].map((cell) => escapeText(String(cell)));
  });
  writeFileSync(join(directory, "report.tsv"), [headings, ...lines].map((cells) => `${cells.join("\t")}\n`).join(""));
  const failures = verdicts.filter(({ problems }) => problems.length > 0);
  const texts = failures.map((verdict) => {
    const { status, seconds, stdout, stderr } = verdict.seen;
    const output = [
      ["stdout", stdout],
      ["stderr", stderr],
    ].map(([name, bytes]) => `--- ${name}\n${escapeText(tail(bytes as Uint8Array))}\n`);
    return `${formatFailure(verdict)}\n  exit ${status} after ${seconds.toFixed(1)} s\n${output.join("")}`;
  });
  writeFileSync(join(directory, "failures.txt"), texts.join(""));
}

const TAIL_LENGTH = 3000;

function tail(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("utf8");
  return text.length > TAIL_LENGTH ? `...${text.slice(-TAIL_LENGTH)}` : text;
}

/** Escapes all characters that a terminal may interpret, except newlines: the report quotes hostile output. */
function escapeText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    character === "\n" ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
