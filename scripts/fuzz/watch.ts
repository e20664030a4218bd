import { fork } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Progress, Task } from "./child.js";
import { findingsDirectory, saveInput } from "./corpus.js";
import { LIMITS } from "./judgement.js";
import type { ParserName } from "./target.js";

/** Results of a parser. */
export interface Outcome {
  readonly parser: ParserName;
  inputs: number;
  readonly outcomes: Map<string, number>;
  slowestMs: number;
  peakBytes: number;
  coverage: Progress["coverage"];
  /** Findings, with the number of the input and the file that holds it. */
  readonly findings: { readonly number: number; readonly what: string; readonly path: string }[];
}

/** A child detects slow inputs itself. It is considered hung after this many times the time limit on one input. */
const HANG_FACTOR = 15;
const CHECK_INTERVAL_MS = 500;
const MAX_FINDINGS = 10;
const MEMORY = ["--max-old-space-size=256"];

/** Runs a task in child processes and sums up their reports. If an input ends a child, a new one starts after that input. `script`: path of child.js. */
export async function watch(script: string, task: Omit<Task, "inputFile" | "numberFile">): Promise<Outcome> {
  // In memory, if possible.
  const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "nextvlad-fuzz-"));
  const files = { inputFile: join(directory, "input"), numberFile: join(directory, "number") };
  const clear = (): void => rmSync(directory, { recursive: true, force: true });
  process.once("exit", clear);
  for (const file of Object.values(files)) writeFileSync(file, "");
  const outcome: Outcome = {
    parser: task.parser,
    inputs: 0,
    outcomes: new Map(),
    slowestMs: 0,
    peakBytes: 0,
    coverage: null,
    findings: [],
  };
  const endMs = performance.now() + (task.work.kind === "guided" ? 1000 * task.work.seconds : Number.POSITIVE_INFINITY);
  try {
    for (let from = task.from; outcome.findings.length < MAX_FINDINGS; ) {
      const { work } = task;
      const left = work.kind === "guided" ? { ...work, seconds: (endMs - performance.now()) / 1000 } : work;
      if (left.kind === "guided" ? left.seconds <= 0 : from >= left.to) break;
      const next = await runChild(script, { ...task, ...files, from, work: left }, outcome);
      if (next === null) break;
      from = next;
    }
    return outcome;
  } finally {
    process.off("exit", clear);
    clear();
  }
}

/** Returns the number of the input to continue from, or null if the task is done. */
async function runChild(script: string, task: Task, outcome: Outcome): Promise<number | null> {
  const child = fork(script, [JSON.stringify(task)], { execArgv: MEMORY, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  let next = task.from;
  let done = false;
  let reported = 0;
  const find = (number: number, what: string, bytes: Uint8Array): void => {
    outcome.findings.push({ number, what, path: saveInput(findingsDirectory(), `${task.parser}-`, bytes) });
  };
  child.on("message", (message) => {
    const progress = message as Progress;
    outcome.inputs += progress.next - next;
    next = progress.next;
    for (const [code, count] of Object.entries(progress.outcomes)) outcome.outcomes.set(code, (outcome.outcomes.get(code) ?? 0) + count);
    outcome.slowestMs = Math.max(outcome.slowestMs, progress.slowestMs);
    outcome.peakBytes = Math.max(outcome.peakBytes, progress.peakBytes);
    outcome.coverage = progress.coverage;
    for (const { number, what, bytes } of progress.findings) {
      reported++;
      find(number, what, bytes === "" ? readFileSync(task.inputFile) : Buffer.from(bytes, "base64"));
    }
    if (progress.openFiles > 64) find(next, `${progress.openFiles} files are open`, readFileSync(task.inputFile));
    done = progress.done;
    if (outcome.findings.length >= MAX_FINDINGS) child.kill("SIGKILL");
  });
  let hung = false;
  const timer = setInterval(() => {
    hung = Date.now() - statSync(task.inputFile).mtimeMs > HANG_FACTOR * LIMITS.timeMs;
    if (hung) child.kill("SIGKILL");
  }, CHECK_INTERVAL_MS);
  const how = await new Promise<string>((resolve) =>
    child.on("close", (code, signal) => resolve(signal === null ? `with code ${code}` : `by ${signal}`)),
  );
  clearInterval(timer);
  if (done) return null;
  if (reported > 0) return next;
  const number = Number(readFileSync(task.numberFile, "utf8") || next);
  find(number, hung ? "hung and was killed" : `the process ended ${how}`, readFileSync(task.inputFile));
  outcome.inputs += number + 1 - next;
  return number + 1;
}
