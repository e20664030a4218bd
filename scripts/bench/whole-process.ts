import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { NextvladError } from "../../src/base/errors.js";
import type { Level } from "../../src/runtime/processor.js";
import { runChild } from "./child.js";
import { isaEnvironment } from "./isa.js";
import { type Spread, spreadOf } from "./statistics.js";

/** A run of nextvlad as a whole process, from its start to its exit. */
export interface ProcessTiming {
  /** Number of videos that it computed. */
  readonly videos: number;
  readonly seconds: number;
  /** Seconds from the start to the log line of the first batch, which follows its computation. */
  readonly first_batch_seconds: number;
  /** Videos per second from then on, to the exit. */
  readonly rest_rate: number;
  /** Fraction of the loop over batches that waited for data: 0..1. */
  readonly wait_share: number;
}

/** A command that computes on shards. */
export interface ShardCommand {
  /** Path of the nextvlad program. */
  readonly cli: string;
  readonly command: "train" | "eval" | "infer";
  /** Without --batch-size, --log-interval and --save-dir. */
  readonly args: readonly string[];
  readonly batch: number;
  /** Number of videos that it computes. */
  readonly videos: number;
  readonly isa: Level | null;
}

interface LogLine {
  /** ISO 8601. */
  readonly time: string;
  /** Only in lines about batches. */
  readonly wait_share?: number;
}

/** Steps between lines of the log. A line is written after the first step, too. */
const LOG_INTERVAL = "10";

/** Runs a command and reads its log. Writes below `folder`, and removes what it wrote. */
export async function timeProcess(run: ShardCommand, folder: string, signal: AbortSignal): Promise<ProcessTiming> {
  const { cli, command, args, batch, videos, isa } = run;
  const saveDir = await mkdtemp(join(folder, `${command}-`));
  const flags = ["--batch-size", String(batch), "--log-interval", LOG_INTERVAL, "--save-dir", saveDir];
  const startMs = Date.now();
  await runChild(process.execPath, [cli, command, ...args, ...flags], signal, isaEnvironment(isa));
  const endMs = Date.now();
  const log = await readFile(join(saveDir, `${command}.log.jsonl`), "utf8");
  await rm(saveDir, { recursive: true });
  return readTiming(log, { startMs, endMs }, { batch, videos });
}

/** Computes the timing of a process from its log and the times of its start and its end. Throws BAD_FORMAT if the log contains no line about a batch. */
export function readTiming(
  log: string,
  { startMs, endMs }: { readonly startMs: number; readonly endMs: number },
  { batch, videos }: Pick<ShardCommand, "batch" | "videos">,
): ProcessTiming {
  const lines = log
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as LogLine)
    .filter((line) => line.wait_share !== undefined);
  const [first, last] = [lines[0], lines.at(-1)];
  if (first === undefined || last?.wait_share === undefined) throw new NextvladError("BAD_FORMAT", "the log contains no batches");
  const firstMs = Date.parse(first.time);
  return {
    videos,
    seconds: (endMs - startMs) / 1000,
    first_batch_seconds: (firstMs - startMs) / 1000,
    rest_rate: (videos - Math.min(batch, videos)) / ((endMs - firstMs) / 1000),
    wait_share: last.wait_share,
  };
}

/** Timings of whole processes, compared with the steady rates that were measured right before each of them. */
export interface ProcessReport {
  /** Number of videos of each. */
  readonly videos: number;
  readonly first_batch_seconds: Spread;
  /** The rate of the whole process as a fraction of the steady rate. */
  readonly share: Spread;
  /** The rate after the first batch as a fraction of the steady rate. */
  readonly rest_share: Spread;
  readonly wait_share: Spread;
}

/** Summarizes one or more timings on the same videos, with the steady rate in videos per second for each of them. */
export function reportProcesses(timings: readonly ProcessTiming[], steadyRates: readonly number[]): ProcessReport {
  const shareOf = (rate: (timing: ProcessTiming) => number): Spread =>
    spreadOf(timings.map((timing, pair) => rate(timing) / (steadyRates[pair] as number)));
  return {
    videos: timings[0]?.videos ?? 0,
    first_batch_seconds: spreadOf(timings.map(({ first_batch_seconds }) => first_batch_seconds)),
    share: shareOf(({ videos, seconds }) => videos / seconds),
    rest_share: shareOf(({ rest_rate }) => rest_rate),
    wait_share: spreadOf(timings.map(({ wait_share }) => wait_share)),
  };
}
