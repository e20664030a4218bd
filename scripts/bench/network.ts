import type { Config } from "../../src/config/schema.js";
import type { RaggedBatch } from "../../src/data/video.js";
import { ALONE } from "../../src/distributed/world.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { matMul, slice } from "../../src/kernels/tensorflow-ops.js";
import type { Precision } from "../../src/kernels/types.js";
import { dropRates } from "../../src/model/drop-rates.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { parameterTable } from "../../src/model/network.js";
import { modelSizes } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { Adam } from "../../src/optim/adam.js";
import { fill } from "../../src/runtime/constants.js";
import { countKernels } from "../../src/runtime/execution.js";
import { runtime } from "../../src/runtime/runtime.js";
import { tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { stepOptions, trainStep } from "../../src/training/step.js";

const WARM_UP_STEPS = 2;
/** Rows and columns of the matrix product that measures the machine's peak rate: 137 GFLOP. */
const PRODUCT_SIZE = 4096;
const PRODUCTS = 3;

/** Timings of steps on one batch. */
export interface Timing {
  readonly stepSeconds: readonly number[];
  /** Kernels of a step without a loss report, as most training steps are. */
  readonly kernels: number;
}

/** GPU steps per timing: training reads the loss back for log lines only. */
const GPU_STEPS = 10;

/** Reads the loss back, as the peers do. A report for the log would also compute the norms of all gradients and the probabilities, which the peers do not. */
const acceptLoss = (): boolean => true;

/**
 * Times training or inference steps on one batch, after two warm-up steps. A timing ends when the loss or the probabilities have been read back. On a GPU
 * it covers `GPU_STEPS` steps; training reads back the loss of the last of them only.
 */
export function timeNetwork(mode: "train" | "infer", config: Config, batch: RaggedBatch, steps: number, precision: Precision): Timing {
  const count = runtime().device.kind === "gpu" ? GPU_STEPS : 1;
  const step = mode === "train" ? trainingStep(config, batch) : inferenceStep(config, batch, precision);
  let kernels = 0;
  for (let number = 0; number < WARM_UP_STEPS; number++) {
    const before = countKernels();
    step(number, false);
    kernels = countKernels() - before;
  }
  const stepSeconds = Array.from({ length: steps }, (_, sample) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) step(WARM_UP_STEPS + sample * count + i, i === count - 1);
    return (performance.now() - start) / 1000 / count;
  });
  return { stepSeconds, kernels };
}

function freshWeights({ MODEL }: Config): WeightStore {
  const store = new WeightStore(parameterTable(modelSizes(MODEL)));
  for (const { name } of store.table) store.initialize(name, 0, null);
  return store;
}

function trainingStep(config: Config, batch: RaggedBatch): (number: number, readsLoss: boolean) => void {
  const { TRAIN } = config;
  const store = freshWeights(config);
  const kernels = chooseKernels();
  const optimizer = new Adam(store, kernels);
  const options = stepOptions(config, 0, kernels, ALONE, null);
  return (number, readsLoss) => {
    const step = { step: number, learningRate: TRAIN.learning_rate, report: false };
    trainStep(batch, { store, optimizer }, options, readsLoss ? { ...step, acceptLoss } : step);
  };
}

function inferenceStep(config: Config, batch: RaggedBatch, precision: Precision): () => void {
  const { MODEL } = config;
  const network = new FrozenNetwork(modelSizes(MODEL), dropRates(MODEL), freshWeights(config), chooseKernels(), precision);
  return () => tidy(() => toFloats(network.probabilities(batch)));
}

/** Returns the floating-point operations per second of a large matrix product: the fastest of three runs, after one warm-up run. */
export function measureProductRate(): number {
  return tidy(() => {
    const x = fill([PRODUCT_SIZE, PRODUCT_SIZE], 0.5);
    const seconds = Array.from({ length: 1 + PRODUCTS }, () => {
      const start = performance.now();
      // Reading a value back synchronizes with the device.
      tidy(() => toFloats(slice(matMul(x, x), [0, 0], [1, 1])));
      return (performance.now() - start) / 1000;
    });
    return (2 * PRODUCT_SIZE ** 3) / Math.min(...seconds.slice(1));
  });
}
