import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { chooseKernels } from "../../src/kernels/choose.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { labelMatrix } from "../../src/model/layers.js";
import { parameterTable } from "../../src/model/network.js";
import { WeightStore } from "../../src/model/weights.js";
import { Adam } from "../../src/optim/adam.js";
import { tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { differentiate, type StepOptions } from "../../src/training/step.js";
import { AT_ONCE } from "../helpers/blocks.js";
import { loadForTests } from "../helpers/device.js";
import { describeUpdateError, type GoldenArray, type GoldenCase, loadGolden, pickKept } from "../helpers/golden.js";

/** With drop_rate 0 the next batch norm cancels these shifts: their exact gradient is zero, and Paddle's is only rounding error. */
const NOISE_ONLY = new Set(["batch_norm_1.b_0", "batch_norm_3.b_0"]);

const golden: GoldenCase = loadGolden("small");
const table = parameterTable(golden.sizes);
const options: Omit<StepOptions, "kernels"> = {
  sizes: golden.sizes,
  dropRates: { descriptor: 0, hidden: 0 },
  labelSmoothing: 0,
  l2Penalty: golden.l2Penalty,
  gradientClip: null,
  seed: 0,
  division: AT_ONCE,
  mixTemperature: 3,
  teacher: null,
};

function vector(name: string): GoldenArray {
  const found = golden.vectors.get(name);
  assert.ok(found !== undefined, `no golden vector ${name}`);
  return found;
}

function loadStore(): WeightStore {
  const store = new WeightStore(table);
  for (const { name, shape } of table) {
    const array = golden.weights.get(name);
    assert.deepEqual(array?.shape, shape, name);
    store.variable(name).upload(array.values as Float32Array);
  }
  return store;
}

const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  assert.equal(a.length, b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs((a[i] as number) - (b[i] as number)));
  return largest;
};

/** Compares an array with a golden one. Large golden arrays contain every n-th row, and all row and column sums. */
function compare(
  prefix: string,
  name: string,
  ours: Float32Array,
  check: (ours: Float32Array | Float64Array, theirs: ArrayLike<number>) => void,
): void {
  const stride = golden.strides[name];
  if (stride === undefined) {
    check(ours, vector(`${prefix}${name}`).values);
    return;
  }
  const rows = vector(`${prefix}${name}/rows`);
  const columns = rows.shape[1] as number;
  const picked = Float32Array.from(
    { length: rows.values.length },
    (_, i) => ours[Math.floor(i / columns) * stride * columns + (i % columns)] as number,
  );
  check(picked, rows.values);
  const count = ours.length / columns;
  const rowSums = new Float64Array(count);
  const columnSums = new Float64Array(columns);
  for (let r = 0; r < count; r++) {
    for (let c = 0; c < columns; c++) {
      const value = ours[r * columns + c] as number;
      rowSums[r] = (rowSums[r] as number) + value;
      columnSums[c] = (columnSums[c] as number) + value;
    }
  }
  check(rowSums, vector(`${prefix}${name}/rowsum`).values);
  check(columnSums, vector(`${prefix}${name}/colsum`).values);
}

describe("the network compared with Paddle 2.6.2's results", () => {
  before(() => loadForTests());

  for (const [rate, name] of [
    [0, "eval_predictions"],
    [0.3, "eval_predictions_drop0.3"],
  ] as const) {
    // Paddle's float32 is within 1e-6 of float64 here, so 1e-5 allows for another order of summation.
    test(`predicts within 1e-5, drop_rate ${rate}`, () => {
      const store = loadStore();
      const network = new FrozenNetwork(golden.sizes, { descriptor: rate, hidden: 0 }, store, chooseKernels());
      const ours = tidy(() => toFloats(network.probabilities(golden.batch)));
      assert.ok(largestDifference(ours, vector(name).values) < 1e-5);
      network.dispose();
      store.dispose();
    });
  }

  test("has Paddle's loss, within 1e-5 of it, in evaluation", () => {
    const store = loadStore();
    const network = new FrozenNetwork(golden.sizes, { descriptor: 0, hidden: 0 }, store, chooseKernels());
    const loss = tidy(() => {
      const labels = labelMatrix(golden.batch.labels, golden.sizes.classes);
      return toFloats(network.kernels.crossEntropy(network.logits(golden.batch), labels, null))[0] as number;
    });
    const theirs = vector("eval_loss").values[0] as number;
    assert.ok(Math.abs(loss / golden.batch.ids.length - theirs) < 1e-5 * theirs);
    network.dispose();
    store.dispose();
  });

  test("has Paddle's loss, gradients and moving statistics in training", () => {
    const store = loadStore();
    const gradients = new Map<string, Float32Array>();
    const report = differentiate(
      golden.batch,
      store,
      { ...options, kernels: chooseKernels() },
      { step: 0, report: true },
      { gradient: (name, gradient) => gradients.set(name, toFloats(gradient)) },
    );
    const theirLoss = vector("train_loss").values[0] as number;
    assert.ok(Math.abs((report?.loss as number) - theirLoss) < 1e-5 * theirLoss);
    assert.deepEqual(
      [...gradients.keys()].sort(),
      table
        .filter(({ trained }) => trained)
        .map(({ name }) => name)
        .sort(),
    );
    for (const [name, ours] of gradients) {
      if (NOISE_ONLY.has(name)) continue;
      compare("grad/", name, ours, (a, b) => {
        let difference = 0;
        let norm = 0;
        for (let i = 0; i < a.length; i++) {
          difference += ((a[i] as number) - (b[i] as number)) ** 2;
          norm += (b[i] as number) ** 2;
        }
        // Paddle's own gradients differ from float64's by at most 2e-5 of the largest.
        assert.ok(Math.sqrt(difference) < 1e-4 * Math.sqrt(norm), `${name}: ${Math.sqrt(difference / norm)}`);
      });
    }
    for (const { name } of table.filter(({ name }) => /\.w_[12]$/.test(name))) {
      const error = largestDifference(store.variable(name).download(), vector(`bn_after1/${name}`).values);
      assert.ok(error < 1e-5, `${name}: ${error}`);
    }
    store.dispose();
  });

  test("has Paddle's parameters after three steps of Adam", () => {
    const store = loadStore();
    const adam = new Adam(store, chooseKernels());
    for (let step = 1; step <= 3; step++) {
      // Paddle 2 scales epsilon by sqrt(1 - beta2^t); fluid 1.5, which our training follows, does not.
      const epsilon = 1e-8 * Math.sqrt(1 - 0.999 ** step);
      const report = trainOnce(store, adam, step, epsilon);
      const theirs = vector("adam_losses").values[step - 1] as number;
      assert.ok(Math.abs(report - theirs) < 1e-5 * theirs, `loss of step ${step}: ${report} and ${theirs}`);
    }
    for (const { name, before, theirs, pick } of updates())
      assert.equal(describeUpdateError(before, pick(store.variable(name).download()), theirs), null, name);
    adam.dispose();
    store.dispose();
  });

  test("an array that is not updated, or by one step too few, fails the comparison with Paddle's parameters", () => {
    const names: string[] = [];
    for (const { name, before, theirs } of updates()) {
      names.push(name);
      assert.equal(describeUpdateError(before, Float32Array.from(theirs), theirs), null, name);
      assert.notEqual(describeUpdateError(before, before, theirs), null, name);
      const twoThirds = before.map((value, i) => value + (2 / 3) * ((theirs[i] as number) - value));
      assert.notEqual(describeUpdateError(before, twoThirds, theirs), null, name);
    }
    assert.equal(names.length, 27);
    assert.ok(names.includes("logits_clf_bias"));
    assert.equal(describeUpdateError([0, 0], [1e-3], [1e-3, 1e-3]), "1 values, 2 before, 2 of Paddle's");
    assert.match(String(describeUpdateError([0, 0], [1e-3, Number.NaN], [1e-3, 1e-3])), /NaN/);
  });

  /** Returns each trained array before and after Paddle's three steps, with the rows that the golden file contains. */
  function updates() {
    return table
      .filter(({ name, trained }) => trained && !NOISE_ONLY.has(name))
      .map(({ name }) => {
        const theirs = vector(golden.strides[name] === undefined ? `after3/${name}` : `after3/${name}/rows`);
        const pick = (values: ArrayLike<number>): Float32Array => pickKept(golden, name, values, theirs.shape.at(-1) as number);
        return { name, before: pick(golden.weights.get(name)?.values as Float32Array), theirs: theirs.values, pick };
      });
  }

  function trainOnce(store: WeightStore, adam: Adam, step: number, epsilon: number): number {
    const report = differentiate(
      golden.batch,
      store,
      { ...options, kernels: chooseKernels() },
      { step: step - 1, report: true },
      {
        gradient: (name, gradient) => {
          const decay = store.parameter(name).decayed ? golden.l2Penalty : 0;
          adam.apply(name, gradient, decay, { step, learningRate: golden.learningRate }, epsilon);
        },
      },
    );
    return report?.loss as number;
  }
});
