import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { NextvladError } from "../../src/base/errors.js";
import { findMutants, instrument, type Mutant } from "./mutations.js";
import type { Part } from "./parts.js";

/** Result of a mutant: a test failed, a test timed out, no test failed, or no test reaches it. */
export type Fate = "killed" | "timeout" | "survived" | "uncovered";

export interface Verdict {
  readonly part: string;
  readonly mutant: Mutant;
  readonly fate: Fate;
  /** The test file that failed or timed out, or null. */
  readonly by: string | null;
}

export interface RunOptions {
  readonly parts: readonly Part[];
  /** Directory of the instrumented build. It must be in the repository's root: tests find their files relative to themselves. */
  readonly directory: string;
  /** Number of concurrent test processes. */
  readonly jobs: number;
  /** Selects the mutants of a part to run. */
  readonly choose: (mutants: readonly Mutant[], part: Part) => readonly Mutant[];
  readonly onVerdict: (verdict: Verdict) => void;
}

/** Returns the `count` mutants whose keys have the lowest hashes, in their original order. */
export function sample(mutants: readonly Mutant[], count: number): readonly Mutant[] {
  const rank = ({ key }: Mutant): string => createHash("sha256").update(key).digest("hex");
  const ranked = mutants.map((mutant) => ({ mutant, rank: rank(mutant) })).sort((a, b) => (a.rank < b.rank ? -1 : 1));
  const chosen = new Set(ranked.slice(0, count).map(({ mutant }) => mutant));
  return mutants.filter((mutant) => chosen.has(mutant));
}

interface Candidate {
  readonly part: Part;
  readonly mutant: Mutant;
  readonly number: number;
}

/** A test file, its duration and the numbers of the mutants that it reaches. */
interface TestFile {
  readonly path: string;
  readonly ms: number;
  readonly reaches: ReadonlySet<number>;
}

const REPORTER = "first-failure.js";

/** A test times out after `PATIENCE` times its duration without a mutant, plus `PATIENCE_MS`. */
const PATIENCE = 4;
const PATIENCE_MS = 10_000;

/** Builds all chosen mutants into one copy of `dist`. Then activates each mutant and runs the tests of its part that reach it, up to the first failure. */
export async function runMutants({ parts, directory, jobs, choose, onVerdict }: RunOptions): Promise<readonly Verdict[]> {
  const candidates: Candidate[] = [];
  const sources = new Map<string, string>();
  for (const part of parts) {
    const files = part.sources.map((name) => `src/${name}.ts`);
    for (const file of files) sources.set(file, readFileSync(file, "utf8"));
    const mutants = files.flatMap((file) => findMutants(sources.get(file) as string, file));
    for (const mutant of choose(mutants, part)) candidates.push({ part, mutant, number: candidates.length });
  }
  build(candidates, sources, directory);
  const tests = new Map<string, TestFile>();
  const names = [...new Set(candidates.flatMap(({ part }) => part.tests))];
  await inParallel(names, jobs, async (name, slot) => void tests.set(name, await measure(name, directory, slot)));
  const verdicts: Verdict[] = [];
  await inParallel(candidates, jobs, async ({ part, mutant, number }, slot) => {
    const reaching = part.tests
      .map((name) => tests.get(name) as TestFile)
      .filter(({ reaches }) => reaches.has(number))
      .sort((a, b) => a.ms - b.ms);
    const verdict = { part: part.name, mutant, ...(await judge(number, reaching, directory, slot)) };
    verdicts[number] = verdict;
    onVerdict(verdict);
  });
  return verdicts;
}

async function judge(number: number, tests: readonly TestFile[], directory: string, slot: number): Promise<Pick<Verdict, "fate" | "by">> {
  if (tests.length === 0) return { fate: "uncovered", by: null };
  for (const { path, ms } of tests) {
    const { passed, timedOut } = await runTest(path, { NEXTVLAD_MUTANT: String(number) }, PATIENCE * ms + PATIENCE_MS, directory, slot);
    if (!passed) return { fate: timedOut ? "timeout" : "killed", by: path };
  }
  return { fate: "survived", by: null };
}

/** Copies `dist` and recompiles the mutated files, each with all of its mutants. */
function build(candidates: readonly Candidate[], sources: ReadonlyMap<string, string>, directory: string): void {
  const sourceDirectory = join(directory, "instrumented");
  for (const name of ["src", "test", "instrumented"]) rmSync(join(directory, name), { recursive: true, force: true });
  for (const name of ["src", "test"]) cpSync(join("dist", name), join(directory, name), { recursive: true });
  // Copy everything that a run needs, so that dist can be rebuilt during the run.
  for (const name of ["switch.js", REPORTER]) cpSync(join("dist/scripts/mutants", name), join(directory, name));
  const files: string[] = [];
  for (const [file, source] of sources) {
    const own = candidates.filter(({ mutant }) => mutant.file === file);
    const [first] = own;
    if (first === undefined) continue;
    const path = join(sourceDirectory, file);
    mkdirSync(dirname(path), { recursive: true });
    const prelude = `import { isActive as $m } from "${relative(dirname(file), "switch.js")}"; `;
    const mutants = own.map(({ mutant }) => mutant);
    writeFileSync(path, prelude + instrument(source, mutants, first.number));
    files.push(path);
  }
  const flags = ["--noCheck", "--noResolve", "--target", "ES2022", "--module", "NodeNext", "--verbatimModuleSyntax", "--types", "node"];
  const compiler = resolve("node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [compiler, "--ignoreConfig", ...flags, "--rootDir", sourceDirectory, "--outDir", directory, ...files], {
    stdio: "inherit",
  });
}

/** Runs a test file without a mutant and records its duration and the mutants that it reaches. Throws BAD_USAGE if it fails. */
async function measure(name: string, directory: string, slot: number): Promise<TestFile> {
  const path = join(directory, "test", `${name}.test.js`);
  const coverageFile = resolve(directory, `coverage-${slot}.txt`);
  writeFileSync(coverageFile, "");
  const since = performance.now();
  const { passed, output } = await runTest(path, { NEXTVLAD_MUTANT_COVERAGE: coverageFile }, 300_000, directory, slot);
  if (!passed) {
    const what = `the tests of ${name} fail without a mutant: ${output.trim()}`;
    throw new NextvladError("BAD_USAGE", what, { file: path, remedy: "fix them first" });
  }
  const ms = performance.now() - since;
  return { path, ms, reaches: new Set(readFileSync(coverageFile, "utf8").split("\n").filter(Boolean).map(Number)) };
}

/** Runs a test file up to its first failure. */
function runTest(
  path: string,
  variables: Readonly<Record<string, string>>,
  limitMs: number,
  directory: string,
  slot: number,
): Promise<{ passed: boolean; timedOut: boolean; output: string }> {
  // A test that is stopped early leaves temporary files; use a separate directory and empty it before each run.
  const temporary = resolve(directory, `tmp-${slot}`);
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  const reporter = pathToFileURL(resolve(directory, REPORTER)).href;
  const args = ["--test-reporter", reporter, "--test-reporter-destination", "stdout", path];
  const env = { ...process.env, TMPDIR: temporary, ...variables };
  const child = spawn(process.execPath, args, { env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let [output, timedOut] = ["", false];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(child);
  }, limitMs);
  return new Promise((done) => {
    child.on("exit", (code) => {
      clearTimeout(timer);
      running.delete(child);
      // Kill its child processes, which hold the pipes open.
      killGroup(child);
      done({ passed: code === 0, timedOut, output });
    });
  });
}

const running = new Set<ChildProcess>();
process.on("exit", () => running.forEach(killGroup));

function killGroup({ pid }: ChildProcess): void {
  try {
    process.kill(-(pid as number), "SIGKILL");
  } catch {
    // All processes have exited.
  }
}

/** Calls `work` for each item, at most `jobs` at a time; `slot` is unique among concurrent calls. */
async function inParallel<T>(items: readonly T[], jobs: number, work: (item: T, slot: number) => Promise<void>): Promise<void> {
  const rest = items.values();
  const workers = Array.from({ length: jobs }, async (_, slot) => {
    for (const item of rest) await work(item, slot);
  });
  await Promise.all(workers);
}

/** Returns whether the build that is copied exists. */
export const isBuilt = (): boolean => existsSync("dist/test");
