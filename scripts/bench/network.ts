import type { Config } from "../../src/config/schema.js";
import type { RaggedBatch } from "../../src/data/video.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { matMul, slice } from "../../src/kernels/tensorflow-ops.js";
import type { Precision } from "../../src/kernels/types.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { parameterTable } from "../../src/model/parameters.js";
import { modelSizes } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { Adam } from "../../src/optim/adam.js";
import { fill } from "../../src/runtime/constants.js";
import { countKernels } from "../../src/runtime/execution.js";
import { runtime, tidy } from "../../src/runtime/runtime.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { trainStep } from "../../src/training/step.js";

const WARM_UP_STEPS = 2;
/** Rows and columns of the product that shows what the machine can do: 137 GFLOP. */
const PRODUCT_SIZE = 4096;
const PRODUCTS = 3;

/** Steps over one batch, timed. */
export interface Timing {
  readonly stepSeconds: readonly number[];
  /** Of a step that reports nothing, which is most of them in training. */
  readonly kernels: number;
}

/** Steps on a GPU that are timed as one: training reads its loss back at lines of the log only. */
const GPU_STEPS = 10;

/**
 * Runs a batch through training or inference, after two steps of warm-up. A timed step ends when its loss or probabilities are back; on a GPU, the loss of
 * the last of some.
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
  for (const { name } of store.table) store.initialise(name, 0, null);
  return store;
}

function trainingStep(config: Config, batch: RaggedBatch): (number: number, report: boolean) => void {
  const { MODEL, TRAIN } = config;
  const store = freshWeights(config);
  const kernels = chooseKernels();
  const optimizer = new Adam(store, kernels);
  const options = {
    kernels,
    sizes: modelSizes(MODEL),
    dropRate: MODEL.drop_rate,
    l2Penalty: TRAIN.l2_penalty,
    gradientClip: TRAIN.gradient_clip,
    seed: 0,
  };
  return (number, report) => {
    trainStep(batch, { store, optimizer }, options, { step: number, learningRate: TRAIN.learning_rate, report });
  };
}

function inferenceStep(config: Config, batch: RaggedBatch, precision: Precision): () => void {
  const { MODEL } = config;
  const network = new FrozenNetwork(modelSizes(MODEL), MODEL.drop_rate, freshWeights(config), chooseKernels(), precision);
  return () => tidy(() => toFloats(network.probabilities(batch)));
}

/** Floating-point operations a second of a large matrix product: the fastest of three, after one of warm-up. */
export function measureProductRate(): number {
  return tidy(() => {
    const x = fill([PRODUCT_SIZE, PRODUCT_SIZE], 0.5);
    const seconds = Array.from({ length: 1 + PRODUCTS }, () => {
      const start = performance.now();
      // Reading a value back waits for the device.
      tidy(() => toFloats(slice(matMul(x, x), [0, 0], [1, 1])));
      return (performance.now() - start) / 1000;
    });
    return (2 * PRODUCT_SIZE ** 3) / Math.min(...seconds.slice(1));
  });
}
