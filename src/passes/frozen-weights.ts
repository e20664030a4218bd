import { crc32c } from "@node-rs/crc32";
import { NextvladError } from "../base/errors.js";
import { requireProcessLimits } from "../base/resource-limits.js";
import { fillAllArrays } from "../checkpoints/arrays.js";
import { suggestEarlierSnapshot } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import { prepareReading } from "../data/stream.js";
import { formatChecksum } from "../formats/checksum.js";
import { chooseKernels } from "../kernels/choose.js";
import { FrozenNetwork } from "../model/frozen.js";
import { checkMemory } from "../model/memory.js";
import { parameterTable } from "../model/network.js";
import { modelSizes } from "../model/sizes.js";
import { WeightStore } from "../model/weights.js";
import { formatDevice, loadTensorflow, runtime, setMatmulPrecision, slowPrecisionWarning } from "../runtime/runtime.js";
import type { Telemetry } from "../telemetry/telemetry.js";

/** A network with loaded weights. */
export interface LoadedNetwork {
  readonly network: FrozenNetwork;
  /** Checksum of the weights. */
  readonly checksum: string;
  /** The software and device that compute the results: their last digits depend on it. */
  readonly computedBy: string;
  dispose(): void;
}

/**
 * Loads TensorFlow and all weights, which must match the model, and closes their source. The reader threads start in parallel. The caller calls `dispose` of
 * the result.
 */
export async function loadNetwork(
  config: Config,
  weights: WeightSource,
  { use_gpu: useGpu, precision, num_readers: readers }: Pick<Config["TEST"], "use_gpu" | "precision" | "num_readers">,
  batchSize: number,
  { log }: Telemetry,
): Promise<LoadedNetwork> {
  // The reader threads and the thread that assembles batches.
  requireProcessLimits({ threads: readers + 1, tensorflow: true }, "set num_readers to 1");
  prepareReading(readers);
  const device = await loadTensorflow(useGpu);
  setMatmulPrecision(precision);
  log.info(formatDevice(device));
  const { inHostMemory } = device;
  checkMemory({ model: config.MODEL, batchSize, training: false, inHostMemory }, (message) => log.warn(message));
  const warning = slowPrecisionWarning(precision, { kind: device.kind, byteInstructions: runtime().native.byteInstructions });
  if (warning !== null) log.warn(warning);
  const sizes = modelSizes(config.MODEL);
  const store = new WeightStore(parameterTable(sizes));
  const checksum = new WeightsChecksum();
  const remedy = "use the config that these weights were trained with, or other weights";
  await fillAllArrays(weights, store.arrays(), remedy, (name, values) => checksum.add(name, values));
  await weights.close();
  const network = new FrozenNetwork(sizes, config.MODEL.drop_rate, store, chooseKernels(), precision);
  const dispose = (): void => {
    network.dispose();
    store.dispose();
  };
  await requireFiniteLogits(network, weights).catch((error: unknown) => {
    dispose();
    throw error;
  });
  const computedBy = `TensorFlow ${device.tensorflowVersion} on the ${device.kind.toUpperCase()}`;
  return { network, checksum: String(checksum), computedBy, dispose };
}

/** Throws NOT_FINITE if a network with finite weights computes NaN or Inf. The source of the weights is named in the error. */
export async function requireFiniteLogits(network: FrozenNetwork, { path: file, snapshot }: WeightSource): Promise<void> {
  if (network.hasFiniteLogits()) return;
  const what = "the model computes NaN or Inf from these weights: the training that wrote them diverged";
  throw await suggestEarlierSnapshot(new NextvladError("NOT_FINITE", what, { file }), snapshot);
}

/** A checksum of the names and values of weights, independent of their order and file format. */
export class WeightsChecksum {
  readonly #lines: string[] = [];

  add(name: string, values: Float32Array): void {
    const crc = crc32c(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    this.#lines.push(`${name} ${formatChecksum(crc)}\n`);
  }

  toString(): string {
    return formatChecksum(crc32c(this.#lines.sort().join("")));
  }
}
