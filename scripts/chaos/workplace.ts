import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../src/nextvlad.cjs", import.meta.url));

/** A running command. */
export interface Running {
  readonly child: ChildProcess;
  readonly startedMs: number;
  /** Resolves with the exit code or signal and the output. */
  readonly ended: Promise<Ended>;
}

export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

/** Resolves at the command's first output on stderr, from which on it handles signals, or when it exits. */
export async function started({ child, ended }: Running): Promise<void> {
  await Promise.race([once(child.stderr as NodeJS.ReadableStream, "data"), ended]);
}

/** Starts `nextvlad`. If `shell` is given, runs that bash script, in which `"$@"` stands for the nextvlad command. */
export function start(args: readonly string[], shell?: string): Running {
  const command = [process.execPath, CLI, ...args];
  const whole = shell === undefined ? command : ["bash", "-c", shell, "bash", ...command];
  const child = spawn(whole[0] as string, whole.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => chunks.push(chunk));
  const ended = once(child, "close").then(([exitCode, signal]) => ({ exitCode, signal, output: Buffer.concat(chunks).toString() }));
  return { child, startedMs: performance.now(), ended };
}

/** Runs `nextvlad` and returns its output. Throws if the exit code is not 0. */
export async function finish(args: readonly string[]): Promise<string> {
  const { exitCode, output } = await start(args).ended;
  if (exitCode !== 0) throw new Error(`nextvlad ${args.join(" ")} exited with ${exitCode}:\n${output}`);
  return output;
}

/** Makes digits and a config for a training run of a few seconds, and returns the config's path. Reuses digits that exist in the directory. */
export async function prepareDigits(directory: string): Promise<string> {
  const config = join(directory, "config.yaml");
  mkdirSync(directory, { recursive: true });
  const digits = join(directory, "digits");
  // The lists are written last: if they are missing, the digits are incomplete.
  if (!existsSync(join(digits, "validate.list"))) {
    await finish(["digits", "--out", digits, "--train-videos", "320", "--validate-videos", "64"]);
  }
  const filelist = join(digits, "validate.list");
  const reading = { batch_size: 16, filelist, use_gpu: false };
  const sections = {
    MODEL: { num_classes: 10, cluster_size: 8, hidden_size: 32, groups: 8, gating_reduction: 8 },
    TRAIN: { ...reading, epoch: 2, learning_rate: 0.001, shuffle_buffer: 64, filelist: join(digits, "train.list") },
    VALID: { batch_size: 16, filelist },
    TEST: reading,
    INFER: reading,
  };
  writeFileSync(config, `${JSON.stringify(sections, null, 2)}\n`);
  return config;
}

/** Makes `count` copies of the first shard of the digits and returns the path of their list. */
export function copyShard(digits: string, directory: string, count: number): string {
  const shards = Array.from({ length: count }, (_, number) => join(directory, `copy${number}.tfrecord`));
  const [first = ""] = readFileSync(join(digits, "train.list"), "utf8").split("\n");
  for (const shard of shards) copyFileSync(join(digits, first), shard);
  const list = join(directory, "copies.list");
  writeFileSync(list, shards.map((shard) => `${shard}\n`).join(""));
  return list;
}

/** Returns whether the named files are equal in both directories, byte for byte. */
export function areEqual(a: string, b: string, names: readonly string[]): boolean {
  return names.every((name) => existsSync(join(a, name)) && readFileSync(join(a, name)).equals(readFileSync(join(b, name))));
}

/** Prints a Markdown table; the first row is the header. */
export function printTable(rows: readonly (readonly (string | number)[])[]): void {
  const [heads = [], ...others] = rows;
  const widths = heads.map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  const isNumber = heads.map((_, column) => others.length > 0 && others.every((row) => typeof row[column] === "number"));
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  const pad = (cell: string | number, column: number): string =>
    isNumber[column] ? String(cell).padStart(widths[column] ?? 0) : String(cell).padEnd(widths[column] ?? 0);
  const rule = widths.map((width, column) => (isNumber[column] ? `${"-".repeat(width - 1)}:` : "-".repeat(width)));
  process.stdout.write([line(heads.map(pad)), line(rule), ...others.map((row) => line(row.map(pad)))].join(""));
}

/** Returns the positive integer at an index of `process.argv`, or a default. Throws if the argument is not a positive integer. */
export function countArgument(fallback: number, place = 2): number {
  const count = Number(process.argv[place] ?? fallback);
  if (Number.isInteger(count) && count > 0) return count;
  throw new Error(`expected an integer of at least 1, found ${process.argv[place]}`);
}
