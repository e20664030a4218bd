/**
 * One measurement in a process of its own, so that its peak memory is its own too: takes a task as JSON, prints a measurement as JSON.
 */
import { fileURLToPath } from "node:url";
import { loadConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import { modelSizes } from "../../src/model/sizes.js";
import { loadTensorflow } from "../../src/tensorflow/runtime.js";
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
      readonly useGpu: boolean;
    }
  | { readonly mode: "read"; readonly directory: string; readonly batch: number }
  | { readonly mode: "metrics"; readonly videos: number };

export interface Measurement {
  /** Videos a second; of reading, 10^6 bytes a second. */
  readonly rate: number;
  readonly peakGiB: number | null;
  /** Of the steps, or of the passes over shards. */
  readonly seconds: readonly number[];
  readonly network: NetworkMeasurement | null;
}

export interface NetworkMeasurement {
  readonly device: "cpu" | "gpu";
  readonly kernelsPerStep: number;
  readonly gflopPerStep: number;
  /** Of a large matrix product in the same process. */
  readonly productGflops: number;
  /** The step's arithmetic a second, as a share of that: 0..1. */
  readonly productShare: number;
}

/** The unit in which the peers print theirs. */
const peakGiB = (): number => process.resourceUsage().maxRSS / 2 ** 20;

async function measure(task: Task, config: Config): Promise<Measurement> {
  if (task.mode === "read") {
    const { seconds, megabytes } = await timeReading(task.directory, task.batch, config);
    return { rate: megabytes / spreadOf(seconds).median, peakGiB: peakGiB(), seconds, network: null };
  }
  if (task.mode === "metrics") {
    const seconds = timeMetrics(task.videos, config.MODEL.num_classes);
    return { rate: task.videos / seconds, peakGiB: peakGiB(), seconds: [seconds], network: null };
  }
  const { mode, batch: videos, frames, steps } = task;
  const { kind } = await loadTensorflow(task.useGpu);
  const sizes = modelSizes(config.MODEL);
  const batch = randomBatch(videos, frames, sizes);
  const { stepSeconds, kernels } = timeNetwork(mode, config, batch, steps);
  const peak = peakGiB();
  const productRate = measureProductRate();
  const seconds = spreadOf(stepSeconds).median;
  const operations = countStep(countArithmetic(sizes, mode), batch.frameCounts);
  const network = {
    device: kind,
    kernelsPerStep: kernels,
    gflopPerStep: operations / 1e9,
    productGflops: productRate / 1e9,
    productShare: operations / seconds / productRate,
  };
  return { rate: videos / seconds, peakGiB: peak, seconds: stepSeconds, network };
}

try {
  const config = await loadConfig(fileURLToPath(new URL("../../../configs/nextvlad.yaml", import.meta.url)));
  const measurement = await measure(JSON.parse(process.argv[2] ?? "") as Task, config);
  process.stdout.write(`${JSON.stringify(measurement)}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
