import assert from "node:assert/strict";
import { type Pausable, runInTurn } from "../../src/distributed/pending.js";
import { ALONE } from "../../src/distributed/world.js";
import { ownKernels } from "../../src/kernels/choose.js";
import { add, multiply, statelessNormal, sum } from "../../src/kernels/tensorflow-ops.js";
import type { Kernels } from "../../src/kernels/types.js";
import type { Division } from "../../src/model/division.js";
import type { TrainingContext } from "../../src/model/layers.js";
import { parameterTable } from "../../src/model/network.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { countTensors } from "../../src/runtime/constants.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, scalar, toFloats } from "../../src/runtime/transfer.js";
import { materializeGradient } from "../../src/training/step.js";
import { type FullTfjs, type TapeTensor, toTape } from "./device.js";

/** A network small enough for finite differences, with sizes that are not multiples of a vector register's. */
export const SMALL: ModelSizes = {
  model: "NEXTVLAD",
  classes: 7,
  clusters: 3,
  groups: 4,
  expansion: 2,
  hidden: 12,
  bottleneck: 3,
  mixtures: 1,
  rgbFeatures: 10,
  audioFeatures: 6,
};
export const [RGB, AUDIO] = modalitiesOf(SMALL) as [ModalitySizes, ModalitySizes];

/** One process computes a batch at once. */
export const AT_ONCE: Division = { world: ALONE, parts: 1, syncBatchNorm: true };

/** Runs a computation of one process to its end. */
export const runToEnd = <T>(computation: Pausable<T>): T => runInTurn([computation])[0] as T;

let draws = 0;

/** Returns normally distributed numbers, different at each call and equal in each run. */
export const normal = (shape: readonly number[]): Tensor => statelessNormal(shape, [7, draws++]);

/** Returns a store with all arrays drawn from a normal distribution, so that no bias is zero and no scale is one: by default different at each call. */
export function randomStore(sizes: ModelSizes = SMALL, seed?: number): WeightStore {
  const store = new WeightStore(parameterTable(sizes));
  for (const [i, { name, shape, initializer }] of store.table.entries()) {
    store.initialize(name, 3 + (seed ?? 0), null);
    if (initializer === "msra") continue;
    tidy(() => {
      const about = initializer === "zeros" ? 0 : 1;
      const drawn = seed === undefined ? normal(shape) : statelessNormal(shape, [8 + seed, i]);
      const values = toFloats(add(multiply(drawn, scalar(0.2)), scalar(about)));
      // Among tens of thousands of variances, one may be negative.
      store.variable(name).upload(name.endsWith(".w_2") ? values.map(Math.abs) : values);
    });
  }
  return store;
}

/** The root mean square of values: of the differences of two arrays, their distance per value. */
export const rootMeanSquare = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length);

/** Returns a copy of the store. */
export function copyOf(store: WeightStore): WeightStore {
  const copy = new WeightStore(store.table);
  for (const { name, download } of store.arrays()) copy.variable(name).upload(download());
  return copy;
}

/** One block under test. Inputs are cloned for each call, because blocks take ownership of them. */
export interface BlockCase {
  readonly inputs: readonly Tensor[];
  readonly parameters: readonly string[];
  /** Runs the block: returns its outputs, and a backward from their gradients to those of the inputs (or null without one). */
  forward(
    inputs: readonly Tensor[],
    context: TrainingContext,
  ): { readonly outputs: readonly Tensor[]; readonly backward: (d: readonly Tensor[]) => readonly (Tensor | null)[] };
  /** Computes the same outputs with tfjs's operations, which its tape differentiates. */
  reference(inputs: readonly TapeTensor[], parameters: ReadonlyMap<string, TapeTensor>): readonly TapeTensor[];
}

const IGNORE_STATISTICS: TrainingContext["onBatchStatistics"] = () => {};

function relativeError(ours: Float32Array, theirs: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < theirs.length; i++) {
    difference += ((ours[i] as number) - (theirs[i] as number)) ** 2;
    norm += (theirs[i] as number) ** 2;
  }
  return Math.sqrt(difference / Math.max(norm, 1e-20));
}

/**
 * Checks a block's outputs and all gradients against tfjs's tape (gradients to 1e-4 of the norm: two orders of float32 rounding), the gradients also against
 * finite differences of the block itself (2e-2: central differences in float32), and that no tensor leaks.
 */
export function checkBlock(tf: FullTfjs, store: WeightStore, block: BlockCase, kernels: Kernels = ownKernels()): void {
  const before = countTensors();
  tidy(() => {
    const dOutputs: Tensor[] = tidy(() => run(store, kernels, block, block.inputs).outputs.map((y) => normal(y.shape)));
    const ours = gradientsOfBlock(tf, store, kernels, block, dOutputs);
    const theirs = gradientsOfTape(tf, store, block, dOutputs);
    for (const [name, gradient] of theirs) {
      const mine = ours.get(name);
      assert.ok(mine !== undefined, `no gradient of ${name}`);
      const error = relativeError(mine, gradient);
      assert.ok(error < 1e-4, `${name}: off the tape by ${error}`);
    }
    assert.equal(ours.size, theirs.size);
    checkDirections(store, kernels, block, dOutputs, ours);
  });
  assert.equal(countTensors(), before, "tensors are left behind");
}

function run(
  store: WeightStore,
  kernels: Kernels,
  block: BlockCase,
  inputs: readonly Tensor[],
  onGradient: TrainingContext["onGradient"] = () => {},
) {
  return block.forward(
    inputs.map((input) => input.clone()),
    {
      weights: store,
      kernels,
      onGradient,
      backwardDense: materializeGradient(store, kernels, onGradient),
      onBatchStatistics: IGNORE_STATISTICS,
    },
  );
}

function gradientsOfBlock(
  tf: FullTfjs,
  store: WeightStore,
  kernels: Kernels,
  block: BlockCase,
  dOutputs: readonly Tensor[],
): Map<string, Float32Array> {
  const gradients = new Map<string, Float32Array>();
  tidy(() => {
    const take = (name: string, gradient: Tensor): void => {
      assert.ok(!gradients.has(name), `${name} came twice`);
      gradients.set(name, toFloats(gradient));
    };
    const { outputs, backward } = run(store, kernels, block, block.inputs, take);
    const expected = tf.tidy(() => {
      const inputs = block.inputs.map((input) => toTape(tf, input));
      return block.reference(inputs, parametersOf(tf, store, block)).map((y) => y.dataSync() as Float32Array);
    });
    for (const [i, y] of outputs.entries()) {
      const error = relativeError(toFloats(y), expected[i] as Float32Array);
      assert.ok(error < 1e-5, `output ${i} is off by ${error}`);
    }
    const dInputs = backward(dOutputs.map((d) => d.clone()));
    for (const [i, d] of dInputs.entries()) if (d !== null) gradients.set(`input ${i}`, toFloats(d));
  });
  return gradients;
}

function parametersOf(tf: FullTfjs, store: WeightStore, block: BlockCase): Map<string, TapeTensor> {
  return new Map(block.parameters.map((name) => [name, tf.tensor(store.variable(name).download(), [...store.variable(name).shape])]));
}

function gradientsOfTape(tf: FullTfjs, store: WeightStore, block: BlockCase, dOutputs: readonly Tensor[]): Map<string, Float32Array> {
  const names = [...block.inputs.map((_, i) => `input ${i}`), ...block.parameters];
  const gradients = tf.tidy(() => {
    const count = block.inputs.length;
    const inputs = block.inputs.map((input) => toTape(tf, input));
    const d = dOutputs.map((each) => toTape(tf, each));
    const differentiate = tf.grads((...values: TapeTensor[]) => {
      const named = new Map(block.parameters.map((name, i) => [name, values[count + i] as TapeTensor]));
      const outputs = block.reference(values.slice(0, count), named);
      return tf.addN(outputs.map((y, i) => tf.sum(tf.mul(y, d[i] as TapeTensor))));
    });
    return differentiate([...inputs, ...parametersOf(tf, store, block).values()]).map((gradient) => gradient.dataSync() as Float32Array);
  });
  return new Map(names.map((name, i) => [name, gradients[i] as Float32Array]));
}

/** Moves each input and parameter along a random direction, and compares the change of sum(y dy) with the gradient's prediction. */
function checkDirections(
  store: WeightStore,
  kernels: Kernels,
  block: BlockCase,
  dOutputs: readonly Tensor[],
  gradients: ReadonlyMap<string, Float32Array>,
): void {
  const objective = (inputs: readonly Tensor[]): number =>
    tidy(() => {
      const { outputs } = run(store, kernels, block, inputs);
      return outputs.reduce(
        (total, y, i) =>
          total +
          (toFloats(
            sum(
              multiply(y, dOutputs[i] as Tensor),
              y.shape.map((_, axis) => axis),
            ),
          )[0] as number),
        0,
      );
    });
  const STEP = 1e-2;
  for (const [name, gradient] of gradients) {
    const index = name.startsWith("input ") ? Number(name.slice(6)) : -1;
    const shape = index >= 0 ? (block.inputs[index] as Tensor).shape : store.variable(name).shape;
    const direction = tidy(() => toFloats(normal(shape)));
    const length = Math.hypot(...direction);
    const unit = direction.map((value) => value / length);
    const at = (sign: number): number => {
      if (index >= 0) {
        return tidy(() => {
          const moved = add(
            block.inputs[index] as Tensor,
            fromFloats(
              unit.map((value) => value * sign * STEP),
              shape,
            ),
          );
          return objective(block.inputs.map((input, i) => (i === index ? moved : input)));
        });
      }
      const variable = store.variable(name);
      const original = variable.download();
      variable.upload(original.map((value, i) => value + sign * STEP * (unit[i] as number)));
      const value = objective(block.inputs);
      variable.upload(original);
      return value;
    };
    const measured = (at(1) - at(-1)) / (2 * STEP);
    const predicted = gradient.reduce((total, value, i) => total + value * (unit[i] as number), 0);
    const size = Math.hypot(...gradient);
    assert.ok(Math.abs(measured - predicted) < 2e-2 * Math.max(size, 1e-2), `${name}: slope ${measured}, gradient says ${predicted}`);
  }
}
