import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { NextvladError } from "../../src/base/errors.js";
import { runMain } from "../fuzz/arguments.js";
import { type Attempt, describeCommand, titleOf } from "./attempt.js";
import { allAttempts, mix, sample, usesModel } from "./attempts.js";
import { makeBase, NEXTVLAD } from "./base.js";
import { isolate, runInNamespace, scratchInNamespace } from "./namespace.js";
import { formatReport, writeReport } from "./report.js";
import { runAttempt, type Verdict } from "./runner.js";
import { Workplace } from "./workplace.js";

const REPORT_FOLDER = resolve("attack");

// Runs every command on hostile inputs and in hostile environments: npm run attack -- [--match TEXT] [--jobs 2] [--ci] [--seed N] [--list] [--inputs FOLDER].
// Exits with 1 if an attempt fails. --ci runs a sample; --list prints the commands; --inputs only writes the inputs, to repeat attempts by hand.
await runMain(async () => {
  const { attempts, jobs, list, inputs } = readOptions();
  if (list) {
    process.stdout.write(attempts.map((attempt) => `${titleOf(attempt)}\n  ${describeCommand(attempt)}\n`).join(""));
    return 0;
  }
  if (inputs !== undefined) {
    // Attempts that mount file systems are skipped: the file systems would stay mounted after this process exits.
    await writeInputs(
      attempts.filter(({ needs }) => needs !== "mount"),
      resolve(inputs),
    );
    return 0;
  }
  const isolated = scratchInNamespace();
  if (isolated !== undefined) {
    isolate(isolated, REPORT_FOLDER);
    return attack(attempts, jobs, isolated);
  }
  mkdirSync(REPORT_FOLDER, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), "nextvlad-attack-"));
  process.once("exit", () => rmSync(scratch, { recursive: true, force: true }));
  const exitCode = await runInNamespace(scratch);
  if (exitCode !== null) return exitCode;
  process.stderr.write("attack: cannot create a mount namespace: changes are detected in the scratch directory only\n");
  return attack(attempts, jobs, scratch);
});

function readOptions() {
  const options = {
    match: { type: "string", default: "" },
    jobs: { type: "string", default: "2" },
    seed: { type: "string", default: "1" },
    ci: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    inputs: { type: "string" },
  } as const;
  const { match, jobs, seed, ci, list, inputs } = parseArgs({ args: process.argv.slice(2), options }).values;
  const matching = allAttempts(Number(seed)).filter((attempt) => `${titleOf(attempt)}\n${describeCommand(attempt)}`.includes(match));
  if (matching.length === 0) {
    throw new NextvladError("BAD_USAGE", "no attempt matches", { key: "--match", found: match });
  }
  return { attempts: ci ? sample(matching) : mix(matching), jobs: Number(jobs), list, inputs };
}

/** Writes the inputs of each attempt to its own directory and prints the commands. */
async function writeInputs(attempts: readonly Attempt[], directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  makeBase(directory, attempts.some(usesModel));
  for (const [number, attempt] of attempts.entries()) {
    const place = new Workplace(join(directory, String(number).padStart(3, "0")));
    await attempt.prepare?.(place);
    process.stdout.write(`# ${titleOf(attempt)}\ncd ${place.directory}\n${describeCommand(attempt)}\n`);
  }
}

/** Runs the attempts that this machine supports, writes the report, and returns the exit code. */
async function attack(attempts: readonly Attempt[], jobs: number, scratch: string): Promise<number> {
  const possible = attempts.filter(({ needs }) => needs === undefined || canPlant(needs, scratch));
  makeBase(scratch, possible.some(usesModel));
  const verdicts = await runAll(possible, jobs, scratch);
  writeReport(REPORT_FOLDER, verdicts);
  process.stdout.write(formatReport(verdicts, attempts.length - possible.length));
  return verdicts.every(({ problems }) => problems.length === 0) ? 0 : 1;
}

async function runAll(attempts: readonly Attempt[], jobs: number, scratch: string): Promise<readonly Verdict[]> {
  const verdicts: Verdict[] = [];
  const rest = attempts.entries();
  const work = async (): Promise<void> => {
    for (const [number, attempt] of rest) {
      const verdict = await runAttempt(attempt, number, { scratch, program: NEXTVLAD });
      verdicts[number] = verdict;
      const { seen, problems } = verdict;
      const found = problems.length === 0 ? "passed" : `FAILED (${problems.map(({ fault }) => fault).join(", ")})`;
      const numbers = `exit ${seen.status}, ${seen.seconds.toFixed(1)} s, ${(seen.peakBytes / 1e6).toFixed(0)} MB`;
      process.stderr.write(`${number + 1}/${attempts.length} ${found}: ${titleOf(attempt)} (${numbers})\n`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return verdicts;
}

/** Returns whether this process may mount file systems or create device nodes. */
function canPlant(needs: "mount" | "mknod", scratch: string): boolean {
  const place = new Workplace(join(scratch, "probe"));
  try {
    if (needs === "mount") place.disk("disk", "size=1m");
    else place.nullNode("node");
    return true;
  } catch {
    return false;
  } finally {
    place.close();
    rmSync(place.directory, { recursive: true, force: true });
  }
}
