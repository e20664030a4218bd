import { describeVersions, versions } from "../base/package.js";
import { type Check, diagnose } from "../inspection/doctor.js";
import type { DoctorFlags } from "./flags.js";
import { isShown, printResult, terminalColumns } from "./output.js";

/** `nextvlad doctor`: prints whether training works on this machine, and how fast; returns the exit code, 1 if it does not. */
export async function runDoctor(shard: string | undefined, { json }: DoctorFlags): Promise<number> {
  const { checks, probe } = await diagnose(shard ?? null);
  const works = checks.every(({ status }) => status !== "problem");
  const conclusion = works ? "training works on this machine" : "training does not work on this machine";
  const lines = [describeVersions(), ...formatChecks(checks), conclusion];
  await printResult({ json }, { works, versions: versions(), tensorflow: probe, checks }, lines);
  return works ? 0 : 1;
}

/** Minimum width of the text, however narrow the terminal is. */
const MIN_TEXT = 20;
const MARKS = { ok: "ok", warning: "WARNING", problem: "PROBLEM" } as const;

/** Formats a line for each check and each remedy; on a terminal, broken at spaces where they are too long for it. */
function formatChecks(checks: readonly Check[]): readonly string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const indent = " ".repeat(width + 11);
  const room = isShown({}) ? Math.max(MIN_TEXT, terminalColumns() - indent.length) : Number.POSITIVE_INFINITY;
  return checks.flatMap(({ name, status, found, remedy }) => {
    const text = [...wrap(found, room), ...(remedy === undefined ? [] : wrap(`help: ${remedy}`, room))];
    return text.map((line, i) => (i === 0 ? `${MARKS[status].padEnd(7)}  ${name.padEnd(width)}  ` : indent) + line);
  });
}

/** Breaks a text at spaces into lines of at most `width` characters, unless a word is longer. */
function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}
