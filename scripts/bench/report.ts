import { availableParallelism, cpus, totalmem } from "node:os";
import type { Measurement, Task } from "./measure.js";
import type { PeerResult } from "./peers.js";
import { ratiosToFastest, type Spread, spreadOf } from "./statistics.js";

/** Measurements taken one after the other: nextvlad, then each peer. */
export interface Pair {
  readonly ours: Measurement;
  readonly peers: readonly PeerResult[];
}

/** Results of nextvlad or of one peer over all pairs. */
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
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memory_gib: number };
  readonly unit: "videos/s" | "MB/s";
  readonly rows: readonly Row[];
  readonly kernels_per_step: number | null;
  readonly gflop_per_step: number | null;
  readonly product_gflops: number | null;
  readonly product_share: number | null;
  /** Ratio of nextvlad's rate to the fastest peer of each pair: median over pairs; null without peers. */
  readonly ratio_to_fastest: number | null;
  readonly ratio_range: readonly [number, number] | null;
  readonly pairs: readonly Pair[];
}

function rowOf(name: string, results: readonly { rate: number; peak_gib: number | null }[], ratio: Spread | null): Row {
  const peaks = results.flatMap(({ peak_gib }) => peak_gib ?? []);
  return { name, rate: spreadOf(results.map(({ rate }) => rate)), peak_gib: peaks.length === 0 ? null : Math.max(...peaks), ratio };
}

/** Summarizes one or more pairs, which must have the same peers in the same order. */
export function makeReport(task: Task, pairs: readonly Pair[]): Report {
  const ours = pairs.map((pair) => pair.ours);
  const rates = ours.map(({ rate }) => rate);
  const names = pairs[0]?.peers.map(({ name }) => name) ?? [];
  const peers = names.map((_, index) => pairs.map((pair) => pair.peers[index] as PeerResult));
  const ratesOf = (results: readonly PeerResult[]): number[] => results.map(({ rate }) => rate);
  const toFastest = peers.length === 0 ? null : spreadOf(ratiosToFastest(rates, peers.map(ratesOf)));
  const networks = ours.flatMap(({ network }) => network ?? []);
  const median = (values: readonly number[]): number | null => (values.length === 0 ? null : spreadOf(values).median);
  return {
    mode: task.mode,
    task,
    machine: { cpu: cpus()[0]?.model ?? "unknown processor", cores: availableParallelism(), memory_gib: Math.round(totalmem() / 2 ** 30) },
    unit: task.mode === "read" ? "MB/s" : "videos/s",
    rows: [
      rowOf(networks[0]?.device === "gpu" ? "nextvlad, GPU" : "nextvlad", ours, null),
      ...peers.map((results, index) => rowOf(names[index] as string, results, spreadOf(ratiosToFastest(rates, [ratesOf(results)])))),
    ],
    kernels_per_step: median(networks.map(({ kernels_per_step }) => kernels_per_step)),
    gflop_per_step: median(networks.map(({ gflop_per_step }) => gflop_per_step)),
    product_gflops: median(networks.map(({ product_gflops }) => product_gflops)),
    product_share: median(networks.map(({ product_share }) => product_share)),
    ratio_to_fastest: toFastest?.median ?? null,
    ratio_range: toFastest === null ? null : [toFastest.min, toFastest.max],
    pairs,
  };
}

/** Describes a task briefly. */
export function describeTask(task: Task): string {
  if (task.mode === "read") return `read, batch ${task.batch}`;
  if (task.mode === "metrics") return `metrics of ${task.videos} videos`;
  const precision = task.precision === "float32" ? "" : `, ${task.precision}`;
  return `${task.mode}, batch ${task.batch}, ${task.frames === "yt8m" ? "120 to 300 frames" : `${task.frames} frames`}${precision}`;
}

const spreadText = ({ median, min, max }: Spread, digits: number): string =>
  `${median.toFixed(digits)} (${min.toFixed(digits)}..${max.toFixed(digits)})`;

/** Formats the report as a Markdown table, preceded by a line that describes the machine. */
export function formatReport(report: Report): string {
  const { machine, rows, unit, task, kernels_per_step, gflop_per_step, product_gflops, product_share, pairs } = report;
  const digits = unit === "MB/s" || task.mode === "metrics" ? 0 : 1;
  const kernels = kernels_per_step === null ? "" : String(kernels_per_step);
  const share = product_share === null ? "" : `${Math.round(100 * product_share)} %`;
  const cells = rows.map(({ name, rate, peak_gib, ratio }, index) => [
    name,
    spreadText(rate, digits),
    peak_gib === null ? "" : `${peak_gib.toFixed(2)} GiB`,
    index === 0 ? kernels : "",
    index === 0 ? share : "",
    ratio === null ? "" : spreadText(ratio, 2),
  ]);
  if (report.ratio_to_fastest !== null && report.ratio_range !== null) {
    const [min, max] = report.ratio_range;
    cells.push(["the fastest of each pair", "", "", "", "", spreadText({ median: report.ratio_to_fastest, min, max }, 2)]);
  }
  const header = [describeTask(task), unit, "peak memory", "kernels per step", "of matmul rate", "nextvlad / peer"];
  // Drop empty columns: reading and metrics have no kernel counts, and there are no ratios without peers.
  const used = header.map((_, column) => column).filter((column) => column < 2 || cells.some((row) => row[column] !== ""));
  const line = (row: readonly string[]): string => `| ${used.map((column) => row[column] as string).join(" | ")} |`;
  const arithmetic =
    gflop_per_step === null || product_gflops === null
      ? ""
      : ` A step is ${gflop_per_step.toFixed(1)} GFLOP; a large matrix product runs at ${product_gflops.toFixed(0)} GFLOP/s.`;
  return [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memory_gib} GiB; median (minimum..maximum) of ${pairs.length}.${arithmetic}`,
    "",
    line(header),
    line(header.map(() => "---")),
    ...cells.map(line),
    "",
  ].join("\n");
}
