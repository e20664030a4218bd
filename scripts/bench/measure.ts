/**
 * Runs one measurement in its own process, so that peak memory is measured separately. Takes a task as JSON and prints a measurement as JSON.
 */
import { loadConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import type { Precision } from "../../src/kernels/types.js";
import { modelSizes } from "../../src/model/sizes.js";
import type { Level } from "../../src/runtime/processor.js";
import { loadTensorflow, setMatmulPrecision } from "../../src/runtime/runtime.js";
import { countArithmetic, countStep } from "./arithmetic.js";
import { FULL_SIZE } from "./checkout.js";
import { timeMetrics } from "./metrics.js";
import { measureProductRate, timeNetwork } from "./network.js";
import { type ReadSettings, timeReading } from "./reading.js";
import { spreadOf } from "./statistics.js";
import { type Frames, randomBatch } from "./workload.js";

/** Steps of the network on a batch in memory. */
export interface NetworkTask {
  readonly mode: "train" | "infer";
  /** Path of the config whose MODEL section has the sizes. */
  readonly config: string;
  readonly batch: number;
  readonly frames: Frames;
  readonly steps: number;
  /** tf32 requires a GPU; int16 and int8 require inference on the CPU. */
  readonly precision: Precision;
  /** The processor level that the environment of the process sets; null for the processor's own. */
  readonly isa: Level | null;
  readonly use_gpu: boolean;
}

export interface ReadTask extends ReadSettings {
  readonly mode: "read";
}

export interface MetricsTask {
  readonly mode: "metrics";
  readonly videos: number;
}

export type Task = NetworkTask | ReadTask | MetricsTask;

export interface Measurement {
  /** The task that was measured. Checkouts before `--config` omit it: they measure the published sizes and two reader threads. */
  readonly task: Task;
  /** Videos per second; for reading, 10^6 bytes per second. */
  readonly rate: number;
  readonly peak_gib: number | null;
  /** Duration of each step, or of each pass over the shards. */
  readonly seconds: readonly number[];
  readonly network: NetworkMeasurement | null;
}

export interface NetworkMeasurement {
  readonly device: "cpu" | "gpu";
  readonly kernels_per_step: number;
  readonly gflop_per_step: number;
  /** GFLOP/s of a large matrix product in the same process. */
  readonly product_gflops: number;
  /** The step's GFLOP/s as a fraction of `product_gflops`: 0..1. */
  readonly product_share: number;
}

/** Returns the peak RSS in GiB, as the peers print it. */
const readPeak = (): number => process.resourceUsage().maxRSS / 2 ** 20;

async function measure(task: Task, config: Config): Promise<Measurement> {
  if (task.mode === "read") {
    const { seconds, megabytes } = await timeReading(task, config);
    return { task, rate: megabytes / spreadOf(seconds).median, peak_gib: readPeak(), seconds, network: null };
  }
  if (task.mode === "metrics") {
    const seconds = timeMetrics(task.videos, config.MODEL.num_classes);
    return { task, rate: task.videos / seconds, peak_gib: readPeak(), seconds: [seconds], network: null };
  }
  const { mode, batch: videos, frames, steps } = task;
  const { kind } = await loadTensorflow(task.use_gpu);
  setMatmulPrecision(task.precision);
  const sizes = modelSizes(config.MODEL);
  const batch = randomBatch(videos, frames, sizes);
  const { stepSeconds, kernels } = timeNetwork(mode, config, batch, steps, task.precision);
  const peak = readPeak();
  const productRate = measureProductRate();
  const seconds = spreadOf(stepSeconds).median;
  const operations = countStep(countArithmetic(sizes, mode), batch.frameCounts);
  const network = {
    device: kind,
    kernels_per_step: kernels,
    gflop_per_step: operations / 1e9,
    product_gflops: productRate / 1e9,
    product_share: operations / seconds / productRate,
  };
  return { task, rate: videos / seconds, peak_gib: peak, seconds: stepSeconds, network };
}

try {
  const task = JSON.parse(process.argv[2] ?? "") as Task;
  const config = await loadConfig("config" in task ? task.config : FULL_SIZE);
  process.stdout.write(`${JSON.stringify(await measure(task, config))}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
