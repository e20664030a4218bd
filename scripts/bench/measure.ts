/**
 * Runs one measurement in its own process, so that peak memory is measured separately. Takes a task as JSON and prints a measurement as JSON.
 */
import { fileURLToPath } from "node:url";
import { loadConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import type { Precision } from "../../src/kernels/types.js";
import { modelSizes } from "../../src/model/sizes.js";
import { loadTensorflow, setMatmulPrecision } from "../../src/runtime/runtime.js";
import { countArithmetic, countStep } from "./arithmetic.js";
import { timeMetrics } from "./metrics.js";
import { measureProductRate, timeNetwork } from "./network.js";
import { timeReading } from "./reading.js";
import { spreadOf } from "./statistics.js";
import { type Frames, randomBatch } from "./workload.js";

export type Task =
  | {
      readonly mode: "train" | "infer";
      readonly batch: number;
      readonly frames: Frames;
      readonly steps: number;
      /** tf32 requires a GPU; int16 and int8 require inference on the CPU. */
      readonly precision: Precision;
      readonly use_gpu: boolean;
    }
  | { readonly mode: "read"; readonly directory: string; readonly batch: number }
  | { readonly mode: "metrics"; readonly videos: number };

export interface Measurement {
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
    const { seconds, megabytes } = await timeReading(task.directory, task.batch, config);
    return { rate: megabytes / spreadOf(seconds).median, peak_gib: readPeak(), seconds, network: null };
  }
  if (task.mode === "metrics") {
    const seconds = timeMetrics(task.videos, config.MODEL.num_classes);
    return { rate: task.videos / seconds, peak_gib: readPeak(), seconds: [seconds], network: null };
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
  return { rate: videos / seconds, peak_gib: peak, seconds: stepSeconds, network };
}

try {
  const config = await loadConfig(fileURLToPath(new URL("../../../configs/nextvlad.yaml", import.meta.url)));
  const measurement = await measure(JSON.parse(process.argv[2] ?? "") as Task, config);
  process.stdout.write(`${JSON.stringify(measurement)}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
