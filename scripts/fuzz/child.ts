import { closeSync, openSync, readdirSync, writeSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { createRandom } from "../../src/base/random.js";
import { readInputs, saveInput, seedDirectory, workDirectory } from "./corpus.js";
import { watchCoverage } from "./coverage.js";
import { describeError, type Judgement, judge, LIMITS } from "./judgement.js";
import { mutate } from "./mutation.js";
import { loadTarget, PARSERS, type ParserName } from "./target.js";

/** Task of a child process: either the mutations numbered `from` to `to`, or coverage-guided fuzzing for a number of seconds. */
export interface Task {
  readonly parser: ParserName;
  readonly seed: number;
  readonly from: number;
  readonly work: { readonly kind: "random"; readonly to: number } | { readonly kind: "guided"; readonly seconds: number };
  /** Files that hold the current input and its number. */
  readonly inputFile: string;
  readonly numberFile: string;
}

/** A child's report; counts and findings are those since the previous report. */
export interface Progress {
  /** Number of the last input plus one. */
  readonly next: number;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  readonly peakBytes: number;
  readonly openFiles: number;
  readonly findings: readonly { readonly number: number; readonly what: string; readonly bytes: string }[];
  /** Number of code paths reached, and of inputs in the pool; null without coverage. */
  readonly coverage: { readonly paths: number; readonly inputs: number } | null;
  readonly done: boolean;
}

const REPORT_INTERVAL_MS = 250;

async function run(task: Task): Promise<void> {
  process.once("disconnect", () => process.exit());
  const target = await loadTarget(task.parser);
  const seeds = readInputs(seedDirectory(task.parser));
  const numberFile = openSync(task.numberFile, "w");
  const tally = new Tally(task.from);
  const step = async (number: number, bytes: Uint8Array): Promise<Judgement> => {
    writeSync(numberFile, String(number).padEnd(16), 0);
    const judgement = await judge(target, bytes, task.inputFile);
    // Yield to the event loop: synchronous parsers would block other events, such as the disconnection of the parent.
    if (tally.add(number, bytes, judgement)) await setImmediate();
    // The peak RSS of a process never decreases, so continue in a new process.
    if (process.resourceUsage().maxRSS * 1024 > LIMITS.memoryBytes) await new Promise(() => tally.report(false, () => process.exit(1)));
    return judgement;
  };
  process.on("uncaughtException", (error) => {
    tally.fail(describeError(error));
    tally.report(false, () => process.exit(1));
  });
  if (task.work.kind === "random") {
    for (let number = task.from; number < task.work.to; number++) {
      await step(number, mutation(task.parser, task.seed, number, seeds));
    }
  } else await fuzzByCoverage(task, seeds, step, tally);
  closeSync(numberFile);
  tally.report(true, () => process.disconnect());
}

/** Returns the input with a given number; deterministic for the same seed and corpus. */
export function mutation(parser: ParserName, seed: number, number: number, seeds: readonly Uint8Array[]): Uint8Array {
  const random = createRandom(seed, "digits", PARSERS.indexOf(parser), number);
  return mutate(seeds[random.below(seeds.length)] as Uint8Array, random, seeds);
}

/** Mutates inputs and adds those that reach a new code path to the pool, to be mutated further. */
async function fuzzByCoverage(
  task: Task,
  seeds: readonly Uint8Array[],
  step: (number: number, bytes: Uint8Array) => Promise<Judgement>,
  tally: Tally,
): Promise<void> {
  const seconds = task.work.kind === "guided" ? task.work.seconds : 0;
  const end = performance.now() + 1000 * seconds;
  const coverage = watchCoverage();
  const pool: Uint8Array[] = [];
  const known = [...seeds, ...readInputs(workDirectory(task.parser))];
  for (let number = task.from; performance.now() < end; number++) {
    const random = createRandom(task.seed, "digits", PARSERS.indexOf(task.parser), number);
    const given = known[number - task.from];
    // Prefer recent inputs, which have been mutated least.
    const pick = random.below(2) === 0 ? random.below(pool.length) : Math.max(0, pool.length - 1 - random.below(32));
    const bytes = given ?? mutate(pool[pick] as Uint8Array, random, pool);
    const { finding } = await step(number, bytes);
    const isNew = coverage.reachedNewPath();
    if (given !== undefined || (isNew && finding === null)) {
      pool.push(bytes);
      if (given === undefined) saveInput(workDirectory(task.parser), "", bytes);
    }
    tally.coverage = { paths: coverage.paths, inputs: pool.length };
  }
}

/** Collects progress and sends it to the parent. */
class Tally {
  coverage: Progress["coverage"] = null;
  #next: number;
  #outcomes: Record<string, number> = {};
  #slowestMs = 0;
  #findings: Progress["findings"][number][] = [];
  #reportedMs = performance.now();

  constructor(from: number) {
    this.#next = from;
  }

  /** Adds a judgement; returns whether a report was sent. */
  add(number: number, bytes: Uint8Array, { outcome, timeMs, finding }: Judgement): boolean {
    this.#next = number + 1;
    this.#outcomes[outcome] = (this.#outcomes[outcome] ?? 0) + 1;
    this.#slowestMs = Math.max(this.#slowestMs, timeMs);
    if (finding !== null) this.#findings.push({ number, what: finding, bytes: Buffer.from(bytes).toString("base64") });
    const isTime = finding !== null || performance.now() - this.#reportedMs > REPORT_INTERVAL_MS;
    if (isTime) this.report(false);
    return isTime;
  }

  /** Records an uncaught error. */
  fail(what: string): void {
    this.#findings.push({ number: this.#next, what: `uncaught error: ${what}`, bytes: "" });
  }

  report(done: boolean, then: () => void = () => undefined): void {
    const progress: Progress = {
      next: this.#next,
      outcomes: this.#outcomes,
      slowestMs: this.#slowestMs,
      peakBytes: process.resourceUsage().maxRSS * 1024,
      openFiles: readdirSync("/proc/self/fd").length,
      findings: this.#findings,
      coverage: this.coverage,
      done,
    };
    this.#outcomes = {};
    this.#findings = [];
    this.#reportedMs = performance.now();
    process.send?.(progress, then);
  }
}

if (process.connected) await run(JSON.parse(process.argv[2] as string) as Task);
