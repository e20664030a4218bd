import type { Logger } from "pino";
import type { Threads } from "../base/threads.js";
import type { Config } from "../config/schema.js";
import type { Cluster } from "../distributed/cluster.js";
import { serverOf } from "../distributed/server-def.js";
import { chooseKernels } from "../kernels/choose.js";
import type { Kernels } from "../kernels/types.js";
import { checkMemory } from "../model/memory.js";
import { type Device, explainLevel, formatDevice, loadTensorflow, setMatmulPrecision } from "../runtime/runtime.js";
import { logPhase } from "../telemetry/phases.js";

export interface RuntimeOptions {
  readonly config: Config;
  /** Section of the config with the device and the precision. */
  readonly section: "TRAIN" | "TEST" | "INFER";
  /** Maximum number of videos per batch. */
  readonly batchSize: number;
  /** Has no effect if the process has already loaded TensorFlow. */
  readonly threads: Threads;
  /** The cluster that this process belongs to; by default, it is on its own. */
  readonly cluster?: Cluster | null;
}

/**
 * Loads TensorFlow for one command, logs the device, and chooses the kernels. Throws OUT_OF_MEMORY if the available memory is too low, and what
 * `loadTensorflow` throws.
 */
export async function startRuntime(
  { config, section, batchSize, threads, cluster = null }: RuntimeOptions,
  log: Logger,
): Promise<{ readonly device: Device; readonly kernels: Kernels }> {
  const { use_gpu: useGpu, precision } = config[section];
  const training = section === "TRAIN";
  const server = cluster === null ? null : serverOf(cluster);
  const device = await loadTensorflow(useGpu, threads, (message) => log.warn(message), server);
  setMatmulPrecision(precision);
  log.info(formatDevice(device));
  log.debug(`processor level ${device.level}: ${explainLevel()}`);
  logPhase(log, "TensorFlow loaded");
  const ranks = cluster?.addresses.length ?? 1;
  const division = training ? { parts: ranks * config.TRAIN.accumulate, ranks } : { parts: 1, ranks: 1 };
  const averaging = training && config.TRAIN.ema_decay !== null;
  const computation = { model: config.MODEL, batchSize, ...division, training, averaging, inHostMemory: device.inHostMemory };
  checkMemory(computation, (message) => log.warn(message));
  return { device, kernels: chooseKernels() };
}
