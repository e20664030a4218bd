import { describeVersions, versions } from "../base/package.js";
import { type Check, diagnose } from "../inspection/doctor.js";
import type { DoctorFlags } from "./flags.js";
import { printResult } from "./output.js";

/** `nextvlad doctor`: prints whether training works on this machine, and how fast; returns the exit code, 1 if it does not. */
export async function runDoctor(shard: string | undefined, { json }: DoctorFlags): Promise<number> {
  const { checks, probe } = await diagnose(shard ?? null);
  const works = checks.every(({ status }) => status !== "problem");
  const conclusion = works ? "training works on this machine" : "training does not work on this machine";
  const lines = [describeVersions(), ...formatChecks(checks), conclusion];
  await printResult({ json }, { works, versions: versions(), tensorflow: probe, checks }, lines);
  return works ? 0 : 1;
}

const MARKS = { ok: "ok", warning: "WARNING", problem: "PROBLEM" } as const;

/** Formats a line for each check and each remedy. */
function formatChecks(checks: readonly Check[]): readonly string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks.flatMap(({ name, status, found, remedy }) => [
    `${MARKS[status].padEnd(7)}  ${name.padEnd(width)}  ${found}`,
    ...(remedy === undefined ? [] : [`${" ".repeat(width + 11)}help: ${remedy}`]),
  ]);
}
