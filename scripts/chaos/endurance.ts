import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { countArgument, prepareDigits, printTable, start } from "./workplace.js";

// Trains for a number of steps, then for a number of epochs with validation and snapshots (the two arguments), and samples the process from outside. After
// a warm-up, in which pools and heaps grow to their sizes, memory, open files and threads must each stay within 5 %, and no file or thread may leak.

/** Resource usage of a process at one moment, read from /proc. */
type Sample = Readonly<Record<(typeof MEASURES)[number], number>>;

const MEASURES = ["memory, MB", "open files", "threads"] as const;

const SAMPLE_MS = 50;
/** Fraction of the samples that is warm-up. */
const WARM_UP = 0.2;
const MAX_SPREAD = 0.05;
/**
 * Number of windows whose means are compared. Single samples fluctuate: memory with each garbage collection, files and threads with each snapshot, whose
 * thread opens the modules that it imports, ten or more within a few milliseconds.
 */
const WINDOWS = 8;
/** Fraction of the samples that may be below the floor: the process closes files and threads as it exits. */
const BELOW_FLOOR = 0.1;

const [steps, epochs] = [countArgument(2000), countArgument(20, 3)];
const directory = mkdtempSync(join(tmpdir(), "nextvlad-endurance-"));
const config = await prepareDigits(directory);
const windowHeads = Array.from({ length: WINDOWS }, (_, window) => `${window + 1}/${WINDOWS}`);
const heads = ["run", "samples", "measure", ...windowHeads, "spread", "floor"];
const rows: (string | number)[][] = [heads];
let failed = 0;
const many = String(10 * steps);
await watch(`${steps} steps`, ["--epoch", many, "--set", `TRAIN.max_iter=${steps}`, "--valid-interval", "0", "--keep", "2"]);
await watch(`${epochs} epochs with validation and snapshots`, ["--epoch", String(epochs), "--save-interval", "5", "--keep", "2"]);
printTable(rows);
process.stdout.write(
  `\nMeans of ${WINDOWS} consecutive windows after the warm-up (the first ${100 * WARM_UP} %). Floor: the value that nine of ten samples reach, `,
);
process.stdout.write("in the first half and in the second: a leaked file or thread raises it.\n");
if (failed > 0) process.exitCode = 1;
rmSync(directory, { recursive: true });

async function watch(name: string, flags: readonly string[]): Promise<void> {
  const saveDir = join(directory, name.replaceAll(/\W+/g, "-"));
  const { child, ended } = start(["train", "--config", config, "--save-dir", saveDir, "--log-interval", "0", ...flags]);
  const samples: Sample[] = [];
  let over = false;
  void ended.then(() => {
    over = true;
  });
  while (!over) {
    const sample = look(child.pid as number);
    if (sample !== null) samples.push(sample);
    await sleep(SAMPLE_MS);
  }
  const { exitCode, output } = await ended;
  if (exitCode !== 0) throw new Error(`the run exited with ${exitCode}:\n${output}`);
  const warm = samples.slice(Math.ceil(WARM_UP * samples.length));
  if (warm.length < WINDOWS) throw new Error(`the run finished after ${samples.length} samples: increase the number of steps`);
  for (const measure of MEASURES) {
    const values = warm.map((sample) => sample[measure]);
    const means = Array.from({ length: WINDOWS }, (_, window) => mean(part(values, window, WINDOWS)));
    const spread = (Math.max(...means) - Math.min(...means)) / mean(means);
    const [before, after] = [floor(part(values, 0, 2)), floor(part(values, 1, 2))];
    if (spread > MAX_SPREAD || (measure !== "memory, MB" && after > before)) failed++;
    const shown = means.map((value) => value.toFixed(1));
    rows.push([name, samples.length, measure, ...shown, `${(100 * spread).toFixed(1)} %`, `${before.toFixed(0)}, ${after.toFixed(0)}`]);
  }
}

/** Samples a process; null if it has exited. */
function look(pid: number): Sample | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const files = readdirSync(`/proc/${pid}/fd`).length;
    const [residentKb, threads] = [/^VmRSS:\s*(\d+)/m, /^Threads:\s*(\d+)/m].map((pattern) => Number(pattern.exec(status)?.[1]));
    if (!Number.isFinite(residentKb)) return null;
    return { "memory, MB": (residentKb as number) / 1024, "open files": files, threads: threads as number };
  } catch {
    return null;
  }
}

function part<T>(values: readonly T[], index: number, count: number): readonly T[] {
  return values.slice(Math.floor((index * values.length) / count), Math.floor(((index + 1) * values.length) / count));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function floor(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(BELOW_FLOOR * values.length)] as number;
}
