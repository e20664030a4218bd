import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { RaggedBatch } from "../../src/data/video.js";
import { ALONE } from "../../src/distributed/world.js";
import { ownKernels } from "../../src/kernels/choose.js";
import { cpuKernels } from "../../src/kernels/cpu.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import type { Kernels } from "../../src/kernels/types.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { parameterTable } from "../../src/model/network.js";
import type { WeightStore } from "../../src/model/weights.js";
import { Adam } from "../../src/optim/adam.js";
import { countTensors } from "../../src/runtime/constants.js";
import { runtime } from "../../src/runtime/runtime.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { differentiate, type GradientSink, type StepOptions, type StepReport, trainStep } from "../../src/training/step.js";
import { WeightAverage } from "../../src/training/weight-average.js";
import { AT_ONCE, copyOf, randomStore, SMALL } from "../helpers/blocks.js";
import { loadForTests } from "../helpers/device.js";

const OPTIONS = {
  sizes: SMALL,
  dropRates: { descriptor: 0.5, hidden: 0 },
  labelSmoothing: 0,
  l2Penalty: 0,
  gradientClip: null,
  seed: 1,
  division: AT_ONCE,
  mixTemperature: 3,
  teacher: null,
} as const;
let options: StepOptions;

function batch(frameCounts: readonly number[], from = 0): RaggedBatch {
  const frames = frameCounts.reduce((sum, count) => sum + count, 0);
  const bytes = (size: number): Uint8Array =>
    Uint8Array.from({ length: frames * size }, (_, i) => (i * 97 + from * 31 + Math.floor(i / 7) * 13) % 256);
  return {
    ids: frameCounts.map((_, i) => `video${i}`),
    frameCounts: Int32Array.from(frameCounts),
    rgb: bytes(SMALL.rgbFeatures),
    audio: bytes(SMALL.audioFeatures),
    labels: frameCounts.map((_, i) => Int32Array.of(i % SMALL.classes)),
  };
}

function gradients(store: WeightStore, overrides: Partial<StepOptions> = {}, step = 0): Map<string, Float32Array> {
  const found = new Map<string, Float32Array>();
  const sink: GradientSink = { gradient: (name, gradient) => found.set(name, toFloats(gradient)) };
  differentiate(batch([3, 9, 1, 4]), store, { ...options, ...overrides }, { step, report: false }, sink);
  return found;
}

describe("a training step", () => {
  let store: WeightStore;
  before(async () => {
    await loadForTests();
    store = randomStore();
    options = { ...OPTIONS, kernels: ownKernels() };
  });
  after(() => store.dispose());

  for (const [modalities, sizes] of [
    ["both modalities", SMALL],
    ["rgb only", { ...SMALL, audioFeatures: 0 }],
    ["audio only", { ...SMALL, rgbFeatures: 0 }],
  ] as const) {
    test(`gradients predict how the loss changes along them, with ${modalities}`, () => {
      const trained = randomStore(sizes);
      const videos = batch([3, 9, 1, 4]);
      const given = {
        ...videos,
        ...(sizes.audioFeatures === 0 ? { audio: null } : {}),
        ...(sizes.rgbFeatures === 0 ? { rgb: null } : {}),
      };
      const run = (take: (name: string, values: Float32Array) => void): StepReport => {
        const gradient = (name: string, tensor: Tensor): void => take(name, toFloats(tensor));
        return differentiate(
          given as RaggedBatch,
          trained,
          { ...options, sizes, dropRates: { descriptor: 0, hidden: 0 } },
          { step: 0, report: true },
          { gradient },
        ) as StepReport;
      };
      const found = new Map<string, Float32Array>();
      const tensors = countTensors();
      const { gradientNorms } = run((name, values) => void found.set(name, values));
      assert.deepEqual([...gradientNorms.keys()].sort(), [...found.keys()].sort());
      assert.equal(countTensors(), tensors);
      assert.deepEqual([...found.keys()].sort(), trained.table.flatMap(({ name, trained }) => (trained ? [name] : [])).sort());
      for (const [name, gradient] of found) {
        const norm = Math.hypot(...gradient);
        // Of matrices, computed from the factors. Sums of up to 1,000 float32 products, each with a relative error of 6e-8.
        assert.ok(Math.abs((gradientNorms.get(name) as number) / norm - 1) < 1e-5, `${name}: ${gradientNorms.get(name)}, expected ${norm}`);
        const variable = trained.variable(name);
        const start = variable.download();
        const lossAt = (distance: number): number => {
          variable.upload(start.map((value, i) => value + (distance * (gradient[i] as number)) / norm));
          return run(() => undefined).loss;
        };
        // The loss is about 5 with a relative float32 error of 1e-6, so the slope at this distance has an error of about 1e-3.
        const slope = (lossAt(3e-3) - lossAt(-3e-3)) / 6e-3;
        variable.upload(start);
        assert.ok(Math.abs(slope - norm) < 2e-2 * norm + 3e-3, `${name}: the loss rises by ${slope}, the gradient says ${norm}`);
      }
      trained.dispose();
    });
  }

  test("leaks no tensor", () => {
    const adam = new Adam(store, options.kernels);
    const before = countTensors();
    for (let step = 0; step < 5; step++) {
      trainStep(
        batch([3, 9, 1, 4], step),
        { store, optimizer: adam },
        { ...options, l2Penalty: 1e-5, gradientClip: 1 },
        { step, learningRate: 1e-3, report: step % 2 === 0 },
      );
      assert.equal(countTensors(), before);
    }
    adam.dispose();
  });

  test("frees each tensor after its last use", () => {
    const countAlive = (kernels: Kernels): number[] => {
      const before = countTensors();
      const alive = new Map<string, number>();
      // Without the norms of the gradients so far, which the report has.
      const gradient = (name: string): void => void alive.set(name, countTensors() - before - (alive.size + 1));
      differentiate(batch([3, 9, 1, 4]), store, { ...options, kernels }, { step: 0, report: true }, { gradient });
      return ["logits_clf_weights", "video_cluster_weights", "audio_cluster_weights"].map((name) => alive.get(name) as number);
    };
    // Live tensors at the first gradient, at rgb's last and at the very last one. A tensor that is not freed lives to the end of the step.
    for (const [counts, largest] of [
      [countAlive(ownKernels()), [57, 23, 5]],
      [countAlive(REFERENCE), [68, 27, 7]],
    ] as const)
      for (const [i, count] of counts.entries()) assert.ok(count <= (largest[i] as number), `${counts} tensors, at most ${largest}`);
  });

  test("is a pure function of weights, batch, seed and step", () => {
    assert.deepEqual(gradients(store), gradients(store));
    assert.notDeepEqual(gradients(store, {}, 1).get("hidden1_fc_weights"), gradients(store, {}, 0).get("hidden1_fc_weights"));
    assert.notDeepEqual(gradients(store, { seed: 2 }).get("hidden1_fc_weights"), gradients(store).get("hidden1_fc_weights"));
  });

  const others = [
    { ...SMALL, model: "NETVLAD", groups: 1, expansion: 1 } as const,
    { ...SMALL, model: "MIX_NEXTVLAD", mixtures: 2 } as const,
  ];
  for (const sizes of [SMALL, ...others]) {
    for (const parts of [2, 3, 4]) {
      test(`in ${parts} parts, the loss, gradients and statistics of ${sizes.model} are those at once`, () => {
        const weights = randomStore(sizes);
        const compute = (parts: number): ReadonlyMap<string, Float32Array> => {
          const trained = copyOf(weights);
          const found = new Map<string, Float32Array>();
          const gradient: GradientSink["gradient"] = (name, value) => {
            assert.ok(!found.has(name), `${name} came twice`);
            found.set(name, toFloats(value));
          };
          const before = countTensors();
          const report = differentiate(
            batch([3, 9, 1, 4]),
            trained,
            { ...options, sizes, division: { ...AT_ONCE, parts } },
            { step: 0, report: true },
            { gradient },
          );
          assert.equal(countTensors(), before);
          found.set("loss", Float32Array.of((report as StepReport).loss));
          for (const { name, trained: isTrained } of weights.table) if (!isTrained) found.set(name, trained.variable(name).download());
          trained.dispose();
          return found;
        };
        const atOnce = compute(1);
        const inParts = compute(parts);
        assert.deepEqual([...inParts.keys()].sort(), [...atOnce.keys()].sort());
        for (const [name, values] of inParts) {
          const expected = atOnce.get(name) as Float32Array;
          const difference = Math.hypot(...values.map((value, i) => value - (expected[i] as number)));
          // float32 rounding, which two batch norms of four videos amplify; a gradient that is zero but for rounding is small compared to the others, about 1.
          assert.ok(difference < 1e-4 * Math.hypot(...expected) + 1e-5, `${name}: ${difference} of ${Math.hypot(...expected)}`);
        }
        weights.dispose();
      });
    }
  }

  test("frees each part's activations: the live tensors at any time do not grow with the parts", () => {
    const largest = (parts: number): number => {
      const before = countTensors();
      let most = 0;
      const gradient = (): void => {
        most = Math.max(most, countTensors() - before);
      };
      differentiate(batch([3, 9, 1, 4]), store, { ...options, division: { ...AT_ONCE, parts } }, { step: 0, report: true }, { gradient });
      return most;
    };
    assert.ok(largest(4) <= largest(2), `${largest(4)} tensors with 4 parts, ${largest(2)} with 2`);
  });

  test("drops each value of the descriptor with probability drop_rate, and does not scale up", () => {
    const kept = gradients(store).get("hidden1_fc_weights") as Float32Array;
    const rows = kept.length / SMALL.hidden;
    let zeroRows = 0;
    for (let r = 0; r < rows; r++) if (kept.subarray(r * SMALL.hidden, (r + 1) * SMALL.hidden).every((value) => value === 0)) zeroRows++;
    // A row is zero if all four videos drop it: 1/16 of the rows, within four standard deviations.
    assert.ok(Math.abs(zeroRows / rows - 1 / 16) < 4 * Math.sqrt((1 / 16) * (15 / 16) * (1 / rows)), `${zeroRows} of ${rows} rows`);
  });

  /** Returns Adam's first moments after one step from zero: a tenth of each parameter's final gradient. */
  function firstMoments(overrides: Partial<StepOptions>, kernels: Kernels = ownKernels()): Map<string, Float32Array> {
    const trained = copyOf(store);
    const adam = new Adam(trained, kernels);
    trainStep(
      batch([3, 9, 1, 4]),
      { store: trained, optimizer: adam },
      { ...options, kernels, ...overrides },
      { step: 0, learningRate: 1e-3, report: false },
    );
    const found = new Map<string, Float32Array>();
    for (const { name, download } of adam.arrays()) if (name.endsWith("_moment1_0")) found.set(name.replace("_moment1_0", ""), download());
    adam.dispose();
    trained.dispose();
    return found;
  }

  for (const [path, gradientClip, kernels] of [
    ["our kernels", null, ownKernels],
    ["the reference kernels", null, () => REFERENCE],
    ["a clip above every norm", 1e6, ownKernels],
  ] as const) {
    test(`adds l2_penalty times the weight to the gradients of the classifier's weights and bias, and to no other: ${path}`, () => {
      const l2Penalty = 1;
      const [plain, decayed] = [0, l2Penalty].map((penalty) => firstMoments({ gradientClip, l2Penalty: penalty }, kernels())) as [
        Map<string, Float32Array>,
        Map<string, Float32Array>,
      ];
      assert.equal(plain.size, parameterTable(SMALL).filter(({ trained }) => trained).length);
      for (const [name, before] of plain) {
        const penalized = decayed.get(name) as Float32Array;
        if (name !== "logits_clf_weights" && name !== "logits_clf_bias") {
          assert.deepEqual(penalized, before, name);
          continue;
        }
        for (const [i, weight] of store.variable(name).download().entries()) {
          const added = ((penalized[i] as number) - (before[i] as number)) / 0.1;
          // Weights and gradients are about 1, so this allows a few float32 roundings.
          assert.ok(Math.abs(added - l2Penalty * weight) < 1e-5, `${name}, value ${i}: ${added} for the weight ${weight}`);
        }
      }
    });
  }

  test("scales a gradient down to gradient_clip if its norm exceeds it, and changes no other gradient", () => {
    const whole = gradients(store);
    const norms = new Map([...whole].map(([name, gradient]) => [name, Math.hypot(...gradient)]));
    const sorted = [...norms.values()].sort((a, b) => a - b);
    // Between two norms, so that no norm equals the limit.
    const middle = Math.floor(sorted.length / 2);
    const clip = Math.sqrt((sorted[middle - 1] as number) * (sorted[middle] as number));
    for (const gradientClip of [null, clip, 1e6]) {
      let scaledDown = 0;
      for (const [name, moment] of firstMoments({ gradientClip })) {
        const norm = norms.get(name) as number;
        const factor = gradientClip === null ? 1 : Math.min(1, gradientClip / norm);
        if (factor < 1) scaledDown++;
        const gradient = whole.get(name) as Float32Array;
        const difference = Math.hypot(...moment.map((value, i) => value - 0.1 * factor * (gradient[i] as number)));
        // Allows for another order of summation, and one rsqrt.
        assert.ok(difference <= 1e-4 * factor * norm, `${name}, clip ${gradientClip}: off by ${difference}, norm ${norm}`);
      }
      assert.equal(scaledDown, gradientClip === clip ? sorted.length - middle : 0);
    }
  });

  test("selects the kernel of each dense layer's product by its size, and updates all of them in one pass", (t) => {
    if (runtime().device.kind === "gpu") return t.skip("the choice is for the CPU");
    const products: number[][] = [];
    const trained = copyOf(store);
    const kernels = cpuKernels({
      bytesInTraining: () => false,
      matMul: ({ rows, terms, columns }) => {
        products.push([rows, terms, columns]);
        return "tensorflow";
      },
      minPackedRows: () => 1,
    });
    const inOnePass: string[] = [];
    for (const { name } of trained.table) {
      const variable = trained.variable(name);
      const { applyProductAdam } = variable;
      variable.applyProductAdam = (...given) => {
        inOnePass.push(name);
        return applyProductAdam.apply(variable, given);
      };
    }
    const adam = new Adam(trained, kernels);
    trainStep(
      batch([3, 9, 1, 4]),
      { store: trained, optimizer: adam },
      { ...options, kernels },
      { step: 0, learningRate: 1e-3, report: false },
    );
    // 4 videos; the descriptor has (20 + 12) / 4 groups * 3 clusters = 24 values. Products with the features and of the folded expansion have other sizes.
    const layers = [
      [4, 24, 12],
      [4, 12, 3],
      [4, 3, 12],
      [4, 12, 7],
    ];
    const found = products.map(String);
    assert.deepEqual(
      layers.map((size) => found.filter((one) => one === String(size)).length),
      [1, 1, 1, 1],
    );
    assert.deepEqual(inOnePass, ["logits_clf_weights", "gating_fc2_weights", "gating_fc1_weights", "hidden1_fc_weights"]);
    adam.dispose();
    trained.dispose();
  });

  test("updates a dense layer from the factors of its gradient as from the gradient, at the first step too, and frees its moments", () => {
    const weightsAfter = (kernels: Kernels, gradientClip: number | null): Float32Array => {
      const trained = copyOf(store);
      const before = countTensors();
      const adam = new Adam(trained, kernels);
      trainStep(
        batch([3, 9, 1, 4]),
        { store: trained, optimizer: adam },
        { ...options, kernels, gradientClip },
        { step: 0, learningRate: 1e-3, report: false },
      );
      adam.dispose();
      assert.equal(countTensors(), before, "the optimizer leaks tensors");
      const weights = trained.variable("hidden1_fc_weights").download();
      trained.dispose();
      return weights;
    };
    // A clip above every norm changes nothing, but needs the whole gradient.
    const expected = weightsAfter(REFERENCE, 1e6);
    for (const kernels of [ownKernels(), REFERENCE]) {
      const differences = weightsAfter(kernels, null).map((value, i) => Math.abs(value - (expected[i] as number)));
      differences.sort();
      // Adam's first step is the learning rate in size. Where a gradient is rounding only, its sign is arbitrary: at most one value in a hundred.
      assert.ok((differences[Math.floor(differences.length * 0.99)] as number) < 1e-5);
    }
  });

  test("ends in the same weights with our kernels as with the reference kernels", () => {
    const after = (steps: () => void, trained: WeightStore): Map<string, Float32Array> => {
      steps();
      // Not the moving statistics: they also differ by what the first steps' arbitrary signs, see below, change in later batches.
      const names = new Set(trained.table.filter((parameter) => parameter.trained).map(({ name }) => name));
      return new Map(trained.arrays().flatMap((array) => (names.has(array.name) ? [[array.name, array.download()]] : [])));
    };
    const trainOn = (trained: WeightStore, adam: Adam, kernels: Kernels) => () => {
      for (let step = 0; step < 3; step++)
        trainStep(
          batch([3, 9, 1, 4], step),
          { store: trained, optimizer: adam },
          { ...options, kernels, l2Penalty: 1e-2 },
          { step, learningRate: 1e-3, report: false },
        );
    };
    // Not `store`, which an earlier test has trained.
    const start = randomStore();
    const [one, other] = [copyOf(start), copyOf(start)];
    const [adam, otherAdam] = [new Adam(one, ownKernels()), new Adam(other, REFERENCE)];
    const fused = after(trainOn(one, adam, ownKernels()), one);
    const composed = after(trainOn(other, otherAdam, REFERENCE), other);
    const differences = [...fused].flatMap(([name, values]) =>
      Array.from(values, (value, i) => Math.abs(value - (composed.get(name)?.[i] as number))),
    );
    differences.sort((a, b) => a - b);
    // Three steps of 1e-3 change a weight by at most 3e-3. If a gradient is only rounding error, its sign, and so Adam's step, is arbitrary.
    assert.ok((differences[Math.floor(differences.length * 0.99)] as number) < 1e-6);
    assert.notDeepEqual(fused.get("hidden1_fc_weights"), start.variable("hidden1_fc_weights").download());
    for (const disposable of [start, one, other, adam, otherAdam]) disposable.dispose();
  });

  test("has no effect if the loss is not accepted", () => {
    const [one, other] = [copyOf(store), copyOf(store)];
    const [adam, otherAdam] = [new Adam(one, options.kernels), new Adam(other, options.kernels)];
    const averages = new Map([one, other].map((trained) => [trained, new WeightAverage(trained, 0.9, ALONE)]));
    for (const average of averages.values()) average.start();
    const arrays = (trained: WeightStore, adam: Adam) =>
      [trained, adam, averages.get(trained)?.store].map(
        (source) => new Map(source?.arrays().map((array) => [array.name, array.download()])),
      );
    const step = (trained: WeightStore, by: Adam, number: number, acceptLoss?: (loss: number) => boolean) =>
      trainStep(
        batch([3, 9, 1, 4], number),
        { store: trained, optimizer: by, ema: averages.get(trained) ?? null },
        { ...options, l2Penalty: 1e-2 },
        { step: number, learningRate: 1e-3, report: true, acceptLoss },
      );
    assert.deepEqual(step(one, adam, 0, Number.isFinite), step(other, otherAdam, 0));
    assert.deepEqual(arrays(one, adam), arrays(other, otherAdam));
    // A NaN weight makes the loss NaN.
    const bias = one.variable("logits_clf_bias");
    const whole = bias.download();
    bias.upload(whole.map((value, i) => (i === 1 ? Number.NaN : value)));
    const before = arrays(one, adam);
    const tensors = countTensors();
    const losses: number[] = [];
    const refuse = (loss: number): boolean => losses.push(loss) === 0;
    assert.equal(step(one, adam, 1, refuse), null);
    assert.deepEqual(losses, [Number.NaN]);
    assert.deepEqual(arrays(one, adam), before);
    assert.equal(countTensors(), tensors);
    bias.upload(whole);
    assert.deepEqual(step(one, adam, 2, Number.isFinite), step(other, otherAdam, 2));
    assert.deepEqual(arrays(one, adam), arrays(other, otherAdam));
    for (const disposable of [one, other, adam, otherAdam, ...[...averages.values()].map((average) => average.store)]) disposable.dispose();
  });

  test("keeps only the result of a prediction, outside of any scope", () => {
    const network = new FrozenNetwork(SMALL, { descriptor: 0.5, hidden: 0 }, store, ownKernels());
    const before = countTensors();
    const probabilities = network.probabilities(batch([3, 9, 1, 4]));
    assert.equal(countTensors(), before + 1);
    probabilities.dispose();
    network.dispose();
    for (const precision of ["int16", "int8"] as const)
      assert.throws(() => tidy(() => new FrozenNetwork(SMALL, { descriptor: 0.5, hidden: 0 }, store, REFERENCE, precision)), {
        code: "BAD_USAGE",
      });
  });

  test("predicts the same for a video alone and within a batch", () => {
    const network = new FrozenNetwork(SMALL, { descriptor: 0.5, hidden: 0 }, store, ownKernels());
    const counts = [3, 9, 1, 4];
    const all = batch(counts);
    const together = tidy(() => toFloats(network.probabilities(all)));
    let frame = 0;
    for (const [video, count] of counts.entries()) {
      const slice = (bytes: Uint8Array, size: number): Uint8Array => bytes.slice(frame * size, (frame + count) * size);
      const alone = {
        frameCounts: Int32Array.of(count),
        rgb: slice(all.rgb, SMALL.rgbFeatures),
        audio: slice(all.audio, SMALL.audioFeatures),
      };
      const ours = tidy(() => toFloats(network.probabilities(alone)));
      for (const [c, value] of ours.entries()) {
        // A product of another shape may sum in another order.
        assert.ok(Math.abs(value - (together[video * SMALL.classes + c] as number)) < 1e-6);
      }
      frame += count;
    }
    network.dispose();
  });
});
