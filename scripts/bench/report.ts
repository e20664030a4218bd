import { cpus, totalmem } from "node:os";
import { basename } from "node:path";
import { chooseThreads, formatThreads } from "../../src/base/threads.js";
import { FULL_SIZE } from "./checkout.js";
import type { Measurement, Task } from "./measure.js";
import type { Result } from "./peers.js";
import { formatPercent, formatSpread, ratiosToFastest, type Spread, spreadOf } from "./statistics.js";
import { type ProcessReport, type ProcessTiming, reportProcesses } from "./whole-process.js";

/** Measurements taken one after the other: nextvlad, its variants, then each peer. */
export interface Pair {
  readonly ours: Measurement;
  /** nextvlad as a whole process on shards; null if it was not measured. */
  readonly from_shards: ProcessTiming | null;
  /** nextvlad with other settings, and another checkout of it. */
  readonly variants: readonly Result[];
  readonly peers: readonly Result[];
}

/** Results of nextvlad, of one variant or of one peer over all pairs. */
interface Row {
  readonly name: string;
  readonly rate: Spread;
  /** Maximum over all pairs. */
  readonly peak_gib: number | null;
  /** Ratio of nextvlad's rate to this rate, per pair; null for nextvlad. */
  readonly ratio: Spread | null;
}

/** Results of a benchmark, as `--json` prints them. */
export interface Report {
  readonly mode: Task["mode"];
  readonly task: Task;
  readonly machine: { readonly cpu: string; readonly cpus: number; readonly memory_gib: number };
  /** Number of threads of the network, in nextvlad and in the peers. */
  readonly threads: number;
  readonly unit: "videos/s" | "MB/s";
  readonly rows: readonly Row[];
  readonly kernels_per_step: number | null;
  readonly gflop_per_step: number | null;
  readonly product_gflops: number | null;
  readonly product_share: number | null;
  /** Ratio of nextvlad's rate to the fastest peer of each pair: median over pairs; null without peers. */
  readonly ratio_to_fastest: number | null;
  readonly ratio_range: readonly [number, number] | null;
  /** The whole process on shards; null if it was not measured. */
  readonly from_shards: ProcessReport | null;
  readonly pairs: readonly Pair[];
}

function rowOf(name: string, results: readonly { rate: number; peak_gib: number | null }[], ratio: Spread | null): Row {
  const peaks = results.flatMap(({ peak_gib }) => peak_gib ?? []);
  return { name, rate: spreadOf(results.map(({ rate }) => rate)), peak_gib: peaks.length === 0 ? null : Math.max(...peaks), ratio };
}

/** Summarizes one or more pairs, which must have the same variants and peers in the same order. */
export function makeReport(task: Task, pairs: readonly Pair[]): Report {
  const ours = pairs.map((pair) => pair.ours);
  const rates = ours.map(({ rate }) => rate);
  const [variants, peers] = [byName(pairs.map((pair) => pair.variants)), byName(pairs.map((pair) => pair.peers))];
  const ratesOf = (results: readonly Result[]): number[] => results.map(({ rate }) => rate);
  const toFastest = peers.length === 0 ? null : spreadOf(ratiosToFastest(rates, peers.map(ratesOf)));
  const processes = pairs.flatMap(({ from_shards }) => from_shards ?? []);
  const networks = ours.flatMap(({ network }) => network ?? []);
  const { cpus: cpuCount, count: threads } = chooseThreads(null, () => undefined);
  const median = (values: readonly number[]): number | null => (values.length === 0 ? null : spreadOf(values).median);
  return {
    mode: task.mode,
    task,
    machine: { cpu: cpus()[0]?.model ?? "unknown processor", cpus: cpuCount, memory_gib: Math.round(totalmem() / 2 ** 30) },
    threads,
    unit: task.mode === "read" ? "MB/s" : "videos/s",
    rows: [
      rowOf(nameOurs(task), ours, null),
      ...[...variants, ...peers].map((results) =>
        rowOf((results[0] as Result).name, results, spreadOf(ratiosToFastest(rates, [ratesOf(results)]))),
      ),
    ],
    kernels_per_step: median(networks.map(({ kernels_per_step }) => kernels_per_step)),
    gflop_per_step: median(networks.map(({ gflop_per_step }) => gflop_per_step)),
    product_gflops: median(networks.map(({ product_gflops }) => product_gflops)),
    product_share: median(networks.map(({ product_share }) => product_share)),
    ratio_to_fastest: toFastest?.median ?? null,
    ratio_range: toFastest === null ? null : [toFastest.min, toFastest.max],
    from_shards: processes.length === 0 ? null : reportProcesses(processes, rates),
    pairs,
  };
}

/** Groups the results of all pairs by what was measured. */
function byName(pairs: readonly (readonly Result[])[]): (readonly Result[])[] {
  return (pairs[0] ?? []).map((_, index) => pairs.map((results) => results[index] as Result));
}

/** Names what nextvlad runs on in a task. */
export function nameOurs(task: Task): string {
  if (task.mode === "read") return `nextvlad, ${task.readers} threads`;
  return "use_gpu" in task && task.use_gpu ? "nextvlad, GPU" : "nextvlad";
}

/** Describes a task briefly. */
export function describeTask(task: Task): string {
  if (task.mode === "read") return `read, batch ${task.batch}`;
  if (task.mode === "metrics") return `metrics of ${task.videos} videos`;
  const { mode, config, batch, frames, precision, isa } = task;
  return [
    mode,
    ...(config === FULL_SIZE ? [] : [basename(config)]),
    `batch ${batch}`,
    frames === "yt8m" ? "120 to 300 frames" : `${frames} frames`,
    ...(precision === "float32" ? [] : [precision]),
    ...(isa === null ? [] : [isa]),
  ].join(", ");
}

/** Formats the timings of the whole process in one sentence. */
export function formatProcesses({ videos, share, first_batch_seconds, rest_share, wait_share }: ProcessReport): string {
  const parts = [
    `${formatPercent(share)} % of the steady rate`,
    `first batch done after ${formatSpread(first_batch_seconds, 2)} s`,
    `then ${formatPercent(rest_share)} % of the steady rate`,
    `waiting for data ${formatPercent(wait_share)} % of the time`,
  ];
  return `The whole process, from ${videos} videos in shards on disk: ${parts.join("; ")}.`;
}

/** Formats the report as a Markdown table, preceded by a line that describes the machine. */
export function formatReport(report: Report): string {
  const { machine, threads, rows, unit, task, kernels_per_step, gflop_per_step, product_gflops, product_share, from_shards, pairs } =
    report;
  const digits = unit === "MB/s" || task.mode === "metrics" ? 0 : 1;
  const kernels = kernels_per_step === null ? "" : String(kernels_per_step);
  const share = product_share === null ? "" : `${Math.round(100 * product_share)} %`;
  const cells = rows.map(({ name, rate, peak_gib, ratio }, index) => [
    name,
    formatSpread(rate, digits),
    peak_gib === null ? "" : `${peak_gib.toFixed(2)} GiB`,
    index === 0 ? kernels : "",
    index === 0 ? share : "",
    ratio === null ? "" : formatSpread(ratio, 2),
  ]);
  if (report.ratio_to_fastest !== null && report.ratio_range !== null) {
    const [min, max] = report.ratio_range;
    cells.push(["the fastest of each pair", "", "", "", "", formatSpread({ median: report.ratio_to_fastest, min, max }, 2)]);
  }
  const header = [describeTask(task), unit, "peak memory", "kernels per step", "of matmul rate", "nextvlad / other"];
  // Drop empty columns: reading and metrics have no kernel counts, and there are no ratios without variants and peers.
  const used = header.map((_, column) => column).filter((column) => column < 2 || cells.some((row) => row[column] !== ""));
  const line = (row: readonly string[]): string => `| ${used.map((column) => row[column] as string).join(" | ")} |`;
  const computing = "config" in task ? `${formatThreads(threads)} on ` : "";
  const arithmetic =
    gflop_per_step === null || product_gflops === null
      ? ""
      : ` A step is ${gflop_per_step.toFixed(1)} GFLOP; a large matrix product runs at ${product_gflops.toFixed(0)} GFLOP/s.`;
  return [
    `${machine.cpu}, ${computing}${machine.cpus} CPUs, ${machine.memory_gib} GiB; median (minimum..maximum) of ${pairs.length}.${arithmetic}`,
    "",
    line(header),
    line(header.map(() => "---")),
    ...cells.map(line),
    ...(from_shards === null ? [] : ["", formatProcesses(from_shards)]),
    "",
  ].join("\n");
}
