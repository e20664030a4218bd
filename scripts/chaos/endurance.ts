import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { countArgument, prepareDigits, printTable, start } from "./workplace.js";

// Trains for so many steps, and for so many epochs with validation and snapshots (the two arguments), and samples the process from outside. After a
// warm-up, in which pools and heaps find their sizes, memory must stay within 5 %, and no file or thread may be left behind.

/** What the system says of a process at one moment. */
interface Sample {
  readonly residentMb: number;
  readonly files: number;
  readonly threads: number;
}

const SAMPLE_MS = 250;
/** The share of the samples that is warm-up. */
const WARM_UP = 0.2;
const LARGEST_SPREAD = 0.05;
/** Samples whose mean is one value: single ones go up and down with each collection of garbage. */
const WINDOWS = 8;

const [steps, epochs] = [countArgument(2000), countArgument(20, 3)];
const folder = mkdtempSync(join(tmpdir(), "nextvlad-endurance-"));
const config = await prepareDigits(folder);
const heads = [
  "run",
  "samples",
  ...Array.from({ length: WINDOWS }, (_, window) => `MB ${window + 1}/${WINDOWS}`),
  "spread",
  "files",
  "threads",
];
const rows: (string | number)[][] = [heads];
let wrong = 0;
const many = String(10 * steps);
await watch(`${steps} steps`, ["--epoch", many, "--set", `TRAIN.max_iter=${steps}`, "--valid-interval", "0", "--keep", "2"]);
await watch(`${epochs} epochs with validation and snapshots`, ["--epoch", String(epochs), "--save-interval", "5", "--keep", "2"]);
printTable(rows);
process.stdout.write(`\nMB: mean resident memory of each part of the run after its warm-up, the first ${100 * WARM_UP} %; `);
process.stdout.write("files and threads: the most in the first half and in the second\n");
if (wrong > 0) process.exitCode = 1;
rmSync(folder, { recursive: true });

async function watch(name: string, flags: readonly string[]): Promise<void> {
  const saveDir = join(folder, name.replaceAll(/\W+/g, "-"));
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
  if (exitCode !== 0) throw new Error(`the training ended with ${exitCode}:\n${output}`);
  const warm = samples.slice(Math.ceil(WARM_UP * samples.length));
  if (warm.length < WINDOWS) throw new Error(`the training was over after ${samples.length} samples: give it more steps`);
  const means = Array.from({ length: WINDOWS }, (_, window) => mean(part(warm, window, WINDOWS).map(({ residentMb }) => residentMb)));
  const spread = (Math.max(...means) - Math.min(...means)) / mean(means);
  const [files, threads] = (["files", "threads"] as const).map((what) => [0, 1].map((half) => most(part(warm, half, 2), what)));
  const grew = [files, threads].some(([before = 0, after = 0] = []) => after > before);
  if (spread > LARGEST_SPREAD || grew) wrong++;
  const shown = means.map((value) => value.toFixed(0));
  rows.push([name, samples.length, ...shown, `${(100 * spread).toFixed(1)} %`, (files ?? []).join(", "), (threads ?? []).join(", ")]);
}

/** Null where the process is no more. */
function look(pid: number): Sample | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const files = readdirSync(`/proc/${pid}/fd`).length;
    const [residentKb, threads] = [/^VmRSS:\s*(\d+)/m, /^Threads:\s*(\d+)/m].map((pattern) => Number(pattern.exec(status)?.[1]));
    return Number.isFinite(residentKb) ? { residentMb: (residentKb as number) / 1024, files, threads: threads as number } : null;
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

function most(samples: readonly Sample[], what: "files" | "threads"): number {
  return Math.max(...samples.map((sample) => sample[what]));
}
