import type { Logger } from "pino";
import { requireProcessLimits } from "../base/resource-limits.js";
import { countReaders, type Threads } from "../base/threads.js";
import type { Config } from "../config/schema.js";
import { prepareReading } from "../data/stream.js";
import { chooseKernels } from "../kernels/choose.js";
import type { Kernels } from "../kernels/types.js";
import { checkMemory } from "../model/memory.js";
import { type Device, formatDevice, loadTensorflow, setMatmulPrecision } from "../runtime/runtime.js";

export interface RuntimeOptions {
  readonly config: Config;
  /** Section of the config with the device, the precision and the number of reader threads. */
  readonly section: "TRAIN" | "TEST" | "INFER";
  /** Maximum number of videos per batch. */
  readonly batchSize: number;
  /** Has no effect if the process has already loaded TensorFlow. */
  readonly threads: Threads;
}

/**
 * Loads TensorFlow for one command, while the reader threads start, logs the device, and chooses the kernels. Throws FILE_UNREADABLE or OUT_OF_MEMORY if the
 * limits of the process or the available memory are too low, and what `loadTensorflow` throws.
 */
export async function startRuntime(
  { config, section, batchSize, threads }: RuntimeOptions,
  log: Logger,
): Promise<{ readonly device: Device; readonly kernels: Kernels }> {
  const { num_readers, use_gpu: useGpu, precision } = config[section];
  const readers = countReaders(num_readers, threads);
  const training = section === "TRAIN";
  // The reader threads, the thread that assembles batches and, in training, the one that writes snapshots.
  const workers = readers + (training ? 2 : 1);
  requireProcessLimits({ threads: workers, tensorflow: true }, `set ${section}.num_readers to 1`);
  prepareReading(readers);
  const device = await loadTensorflow(useGpu, threads, (message) => log.warn(message));
  setMatmulPrecision(precision);
  log.info(formatDevice(device));
  checkMemory({ model: config.MODEL, batchSize, training, inHostMemory: device.inHostMemory }, (message) => log.warn(message));
  return { device, kernels: chooseKernels() };
}
