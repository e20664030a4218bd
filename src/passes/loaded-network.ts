import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { fillAllArrays } from "../checkpoints/arrays.js";
import { suggestEarlierSnapshot } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { formatChecksum } from "../formats/checksum.js";
import { crc32c } from "../formats/crc32.js";
import { dropRates } from "../model/drop-rates.js";
import { FrozenNetwork } from "../model/frozen.js";
import { parameterTable } from "../model/network.js";
import { modelSizes } from "../model/sizes.js";
import { WeightStore } from "../model/weights.js";
import { type Rounding, roundingOf } from "../runtime/rounding.js";
import { logPhase } from "../telemetry/phases.js";
import { type RuntimeOptions, startRuntime } from "./start-runtime.js";

/** A network with loaded weights. */
export interface LoadedNetwork {
  readonly network: FrozenNetwork;
  /** Checksum of the weights. */
  readonly checksum: string;
  /** What the last digits of the results depend on. */
  readonly computedBy: Rounding;
  dispose(): void;
}

/** The runtime's options, and the weights to load into the network. */
export interface LoadOptions extends RuntimeOptions {
  readonly section: "TEST" | "INFER";
  /** All arrays must match the model. `loadNetwork` closes it. */
  readonly weights: WeightSource;
}

/**
 * Loads TensorFlow and a network's weights. The caller disposes of the result. Throws what `startRuntime` throws, BAD_WEIGHTS if the weights do not match the
 * model, and NOT_FINITE if the weights or the logits contain NaN or Inf.
 */
export async function loadNetwork({ weights, ...options }: LoadOptions, log: Logger): Promise<LoadedNetwork> {
  const { config, section } = options;
  const { device, kernels } = await startRuntime(options, log);
  const sizes = modelSizes(config.MODEL);
  const store = new WeightStore(parameterTable(sizes));
  const checksum = new WeightsChecksum();
  const remedy = "use the config that these weights were trained with, or other weights";
  await fillAllArrays(weights, store.arrays(), remedy, (name, values) => checksum.add(name, values));
  await weights.close();
  const network = new FrozenNetwork(sizes, dropRates(config.MODEL), store, kernels, config[section].precision);
  const dispose = (): void => {
    network.dispose();
    store.dispose();
  };
  await requireFiniteLogits(network, weights).catch((error: unknown) => {
    dispose();
    throw error;
  });
  logPhase(log, "weights loaded");
  return { network, checksum: String(checksum), computedBy: roundingOf(device), dispose };
}

/** Throws NOT_FINITE, with the path of the weights, if a network with finite weights computes NaN or Inf. */
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
