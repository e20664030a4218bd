import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type { RaggedBatch } from "../../src/data/video.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { labelMatrix } from "../../src/model/layers.js";
import type { WeightStore } from "../../src/model/weights.js";
import { tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { differentiate, type StepOptions, type StepReport } from "../../src/training/step.js";
import { AT_ONCE, copyOf, randomStore, SMALL } from "../helpers/blocks.js";
import { loadForTests } from "../helpers/device.js";

const FRAMES = [3, 9, 1, 4];
const BATCH: RaggedBatch = {
  ids: FRAMES.map(String),
  frameCounts: Int32Array.from(FRAMES),
  rgb: Uint8Array.from({ length: 17 * SMALL.rgbFeatures }, (_, i) => (i * 97) % 256),
  audio: Uint8Array.from({ length: 17 * SMALL.audioFeatures }, (_, i) => (i * 61) % 256),
  labels: [Int32Array.of(0, 3), Int32Array.of(), Int32Array.of(6), Int32Array.of(2)],
};
const WEIGHTS = [Float32Array.of(0.25, 1), Float32Array.of(), Float32Array.of(0.5), Float32Array.of(0.75)];

interface Pass extends StepReport {
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

describe("a training step with soft labels or dropout of the hidden layer", () => {
  let store: WeightStore;
  let options: StepOptions;
  before(async () => {
    await loadForTests();
    store = randomStore();
    const kernels = chooseKernels();
    const dropRates = { descriptor: 0, hidden: 0 };
    const plain = { labelSmoothing: 0, mixTemperature: 3, teacher: null, l2Penalty: 0, gradientClip: null };
    options = { kernels, sizes: SMALL, dropRates, ...plain, seed: 1, division: AT_ONCE };
  });

  function pass(batch: RaggedBatch, changes: Partial<StepOptions> = {}, step = 0): Pass {
    const gradients = new Map<string, Float32Array>();
    const trained = copyOf(store);
    const sink = { gradient: (name: string, gradient: Parameters<typeof toFloats>[0]) => void gradients.set(name, toFloats(gradient)) };
    const report = differentiate(batch, trained, { ...options, ...changes }, { step, report: true }, sink) as StepReport;
    trained.dispose();
    return { ...report, gradients };
  }

  test("labels are y (1 - s) + s / 2, y the weights of the labels", () => {
    const matrix = (soft: Parameters<typeof labelMatrix>[2]) =>
      tidy(() => Array.from(toFloats(labelMatrix(BATCH.labels, SMALL.classes, soft))));
    assert.deepEqual(matrix({}).slice(0, 7), [1, 0, 0, 1, 0, 0, 0]);
    assert.deepEqual(matrix({ weights: WEIGHTS }).slice(0, 7), [0.25, 0, 0, 1, 0, 0, 0]);
    assert.deepEqual(matrix({ smoothing: 0.5 }).slice(0, 14), [0.75, 0.25, 0.25, 0.75, 0.25, 0.25, 0.25, ...Array(7).fill(0.25)]);
    assert.deepEqual(matrix({ weights: WEIGHTS, smoothing: 0.5 }).slice(0, 4), [0.375, 0.25, 0.25, 0.75]);
  });

  for (const [name, labelSmoothing, labelWeights] of [
    ["label smoothing", 0.25, undefined],
    ["mixed labels", 0, WEIGHTS],
    ["both", 0.25, WEIGHTS],
  ] as const) {
    test(`the loss and the gradient of the classifier's bias are those of soft targets: ${name}`, () => {
      const { loss, probabilities, gradients } = pass({ ...BATCH, labelWeights }, { labelSmoothing });
      const { classes } = SMALL;
      const targets = probabilities.map((_, i) => {
        const [video, label] = [Math.floor(i / classes), i % classes];
        const at = (BATCH.labels[video] as Int32Array).indexOf(label);
        const y = at < 0 ? 0 : (labelWeights?.[video]?.[at] ?? 1);
        return y * (1 - labelSmoothing) + labelSmoothing / 2;
      });
      const terms = Array.from(probabilities, (p, i) => {
        const t = targets[i] as number;
        return -t * Math.log(p) - (1 - t) * Math.log(1 - p);
      });
      const expected = terms.reduce((sum, term) => sum + term) / FRAMES.length;
      // The probabilities are rounded to float32, some of them close to 1: 1 - p is then within 1e-5 of its value or better.
      assert.ok(Math.abs(loss / expected - 1) < 1e-4, `${loss}, expected ${expected}`);
      for (const [label, found] of (gradients.get("logits_clf_bias") as Float32Array).entries()) {
        let sum = 0;
        for (const video of FRAMES.keys()) {
          const i = video * classes + label;
          sum += ((probabilities[i] as number) - (targets[i] as number)) / FRAMES.length;
        }
        assert.ok(Math.abs(found - sum) < 1e-6, `class ${label}: ${found}, expected ${sum}`);
      }
    });
  }

  test("hidden_drop_rate drops values of the classifier's input, others in each step, and does not scale up", () => {
    const { hidden, classes } = SMALL;
    const rows = (values: Float32Array): Float32Array[] =>
      Array.from({ length: hidden }, (_, r) => values.subarray(r * classes, (r + 1) * classes));
    const one = { ...BATCH, ids: ["one"], frameCounts: Int32Array.of(17), labels: [Int32Array.of(1)] };
    const classifier = "logits_clf_weights";
    // x^T dy of one video: a row is zero if its value of x is dropped. Batch norm makes one video's hidden layer its shift, which is not zero.
    const isDropped = (step: number): readonly boolean[] =>
      rows(pass(one, { dropRates: { descriptor: 0, hidden: 0.5 } }, step).gradients.get(classifier) as Float32Array).map((row) =>
        row.every((value) => value === 0),
      );
    assert.deepEqual(
      rows(pass(one).gradients.get(classifier) as Float32Array).filter((row) => row.every((value) => value === 0)),
      [],
    );
    const steps = Array.from({ length: 30 }, (_, step) => isDropped(step));
    const dropped = steps.flat().filter(Boolean).length;
    const draws = 30 * hidden;
    // Within four standard deviations.
    assert.ok(Math.abs(dropped / draws - 0.5) < 4 * Math.sqrt(0.25 / draws), `${dropped} of ${draws}`);
    assert.notDeepEqual(steps[0], steps[1]);
    assert.deepEqual(isDropped(0), steps[0]);
    // Not scaled up: the logits are those of the kept values. From the probabilities with the dropped rows of the classifier set to zero.
    const step = steps.findIndex((flags) => flags.some(Boolean) && !flags.every(Boolean));
    const { probabilities } = pass(one, { dropRates: { descriptor: 0, hidden: 0.5 } }, step);
    const full = store.variable(classifier).download();
    const kept = full.map((value, i) => (steps[step]?.[Math.floor(i / classes)] ? 0 : value));
    store.variable(classifier).upload(kept);
    const expected = pass(one).probabilities;
    store.variable(classifier).upload(full);
    for (const [i, p] of probabilities.entries()) assert.ok(Math.abs(p - (expected[i] as number)) < 1e-6, `${p}, expected ${expected[i]}`);
  });

  test("evaluation multiplies the classifier's input by 1 - hidden_drop_rate", () => {
    const logits = (hidden: number): Float32Array => {
      const network = new FrozenNetwork(SMALL, { descriptor: 0.5, hidden }, store, chooseKernels());
      const found = tidy(() => toFloats(network.logits(BATCH)));
      network.dispose();
      return found;
    };
    const found = logits(0.3);
    const full = store.variable("logits_clf_weights").download();
    store.variable("logits_clf_weights").upload(full.map((value) => value * 0.7));
    const expected = logits(0);
    store.variable("logits_clf_weights").upload(full);
    for (const [i, value] of found.entries())
      assert.ok(Math.abs(value - (expected[i] as number)) < 1e-5, `${value}, expected ${expected[i]}`);
  });
});
