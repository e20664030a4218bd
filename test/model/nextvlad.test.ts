import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { ownKernels } from "../../src/kernels/choose.js";
import { RaggedLayout } from "../../src/kernels/ragged.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { statelessNormal } from "../../src/kernels/tensorflow-ops.js";
import type { Kernels } from "../../src/kernels/types.js";
import { aggregateBatch } from "../../src/model/aggregate-batch.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { batchNorm, type TrainingContext } from "../../src/model/layers.js";
import { AGGREGATORS } from "../../src/model/network.js";
import { NEXTVLAD, nextvladNames } from "../../src/model/nextvlad.js";
import { HIDDEN_NORM } from "../../src/model/parameters.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "../../src/model/sizes.js";
import type { WeightStore } from "../../src/model/weights.js";
import { countTensors } from "../../src/runtime/constants.js";
import { runtime } from "../../src/runtime/runtime.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, toFloats } from "../../src/runtime/transfer.js";
import { AT_ONCE, type BlockCase, checkBlock, RGB, randomStore, rootMeanSquare, runToEnd, SMALL } from "../helpers/blocks.js";
import { type FullTfjs, loadForTests, loadFullTfjs } from "../helpers/device.js";
import { nextvladOnTape } from "../helpers/tape.js";

/** Sizes around the edges of warps (32) and chunks of rows (512). */
const size = (max: number): fc.Arbitrary<number> => fc.oneof(fc.integer({ min: 1, max }), fc.constantFrom(1, 31, 32, 33, 64, 128));

/**
 * Asserts that each array differs from its reference by at most `tolerance` of its norm. `sumsOfSameTerms` lists gradients that sum the same terms, up to factors
 * of about 1: one of few values may be much smaller than its terms, whose rounding it has, so the larger values of the others count too.
 */
function assertClose(
  ours: ReadonlyMap<string, Float32Array>,
  theirs: ReadonlyMap<string, Float32Array>,
  tolerance: number,
  sumsOfSameTerms: readonly (readonly string[])[] = [],
): void {
  assert.deepEqual([...ours.keys()].sort(), [...theirs.keys()].sort());
  for (const [name, values] of theirs) {
    const mine = ours.get(name) as Float32Array;
    assert.equal(mine.length, values.length, name);
    const difference = rootMeanSquare(values.map((value, i) => value - (mine[i] as number)));
    const names = sumsOfSameTerms.find((group) => group.includes(name)) ?? [name];
    const size = Math.max(...names.map((each) => rootMeanSquare(theirs.get(each) as Float32Array)));
    assert.ok(difference <= tolerance * (size + 1e-2), `${name}: ${difference} of ${size}`);
  }
}

/** Returns the tensors that `work` puts into the map, and all gradients and statistics that it reports. */
function collect(
  weights: WeightStore,
  kernels: Kernels,
  work: (context: TrainingContext, found: Map<string, Float32Array>) => void,
): Map<string, Float32Array> {
  const found = new Map<string, Float32Array>();
  tidy(() =>
    work(
      {
        weights,
        kernels,
        onGradient: (name, gradient) => void found.set(name, toFloats(gradient)),
        backwardDense: () => assert.fail("unexpected dense layer"),
        onBatchStatistics: ({ movingMean, movingVariance }, mean, variance) => {
          found.set(movingMean, toFloats(mean));
          found.set(movingVariance, toFloats(variance));
        },
      },
      found,
    ),
  );
  return found;
}

/** A batch norm and its gradient by their definitions. */
function normInDoubles(x: Float32Array, dy: Float32Array, scale: Float32Array, shift: Float32Array) {
  const channels = scale.length;
  const rows = x.length / channels;
  const [y, dx] = [new Float32Array(x.length), new Float32Array(x.length)];
  const [mean, variance, dScale, dShift] = [0, 1, 2, 3].map(() => new Float32Array(channels)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  for (let c = 0; c < channels; c++) {
    const at = Array.from({ length: rows }, (_, row) => row * channels + c);
    const average = (value: (i: number) => number): number => at.reduce((sum, i) => sum + value(i), 0) / rows;
    const middle = average((i) => x[i] as number);
    const spread = average((i) => ((x[i] as number) - middle) ** 2);
    const deviation = Math.sqrt(spread + 1e-5);
    const hat = (i: number): number => ((x[i] as number) - middle) / deviation;
    const meanOfDy = average((i) => dy[i] as number);
    const meanAlong = average((i) => (dy[i] as number) * hat(i));
    for (const i of at) {
      y[i] = hat(i) * (scale[c] as number) + (shift[c] as number);
      dx[i] = ((scale[c] as number) / deviation) * ((dy[i] as number) - meanOfDy - hat(i) * meanAlong);
    }
    mean[c] = middle;
    variance[c] = spread;
    dScale[c] = meanAlong * rows;
    dShift[c] = meanOfDy * rows;
  }
  return { y, dx, mean, variance, dScale, dShift };
}

const SIZES: fc.Arbitrary<ModelSizes> = fc
  .record({
    model: fc.constantFrom("NEXTVLAD", "NEXTVLAD", "NETVLAD"),
    classes: fc.constant(5),
    // With 640, a GPU thread has as many values as registers.
    clusters: fc.oneof(
      { weight: 9, arbitrary: size(140).map((clusters) => Math.max(2, clusters)) },
      { weight: 1, arbitrary: fc.constant(640) },
    ),
    groups: fc.constantFrom(1, 2, 8),
    expansion: fc.constant(2),
    hidden: fc.constant(8),
    bottleneck: fc.constant(2),
    mixtures: fc.constant(1),
    rgbFeatures: fc.constantFrom(20, 64),
    audioFeatures: fc.constant(4),
  })
  .map((sizes) => (sizes.model === "NETVLAD" ? { ...sizes, groups: 1, expansion: 1 } : sizes));
/** At least four videos, of three frames: with fewer, the gradient through the batch norms is mostly rounding error. */
const COUNTS = fc.array(fc.integer({ min: 3, max: 60 }), { minLength: 4, maxLength: 8 });
/** Of the weights, so that a failure can be repeated. */
const SEED = fc.nat(1e6);
const bytesOf = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => (i * 97 + Math.floor(i / 7) * 13) % 256);

describe("NeXtVLAD against its definition", () => {
  const frameCounts = [5, 1, 8, 3, 6, 4];
  const bytes = bytesOf(27 * RGB.features);
  let tf: FullTfjs;
  let store: WeightStore;
  before(async () => {
    tf = await loadFullTfjs();
    store = randomStore();
  });
  after(() => store.dispose());

  const definition = (parts: number): BlockCase => ({
    inputs: [],
    parameters: NEXTVLAD.parameters(RGB).flatMap(({ name, trained }) => (trained ? [name] : [])),
    forward: (_, context) => {
      const { y, backward } = runToEnd(
        aggregateBatch(NEXTVLAD, { ...AT_ONCE, parts }, bytes, new RaggedLayout(Int32Array.from(frameCounts)), RGB, context),
      );
      const toInputs = ([dy]: readonly Tensor[]) => {
        runToEnd(backward(dy as Tensor));
        return [];
      };
      return { outputs: [y], backward: toInputs };
    },
    reference: (_, parameters) => {
      const eigen = store.variable("eigen_param").download();
      const x = Float32Array.from(bytes, (byte, i) => ((byte * 4) / 255 - 2) * (eigen[i % RGB.features] as number));
      return [nextvladOnTape(tf, RGB, tf.tensor(x, [27, RGB.features]), frameCounts, parameters)];
    },
  });

  test("outputs and gradients", () => checkBlock(tf, store, definition(1), ownKernels()));
  test("outputs and gradients, with the reference kernels", () => checkBlock(tf, store, definition(1), REFERENCE));
  // Of 6 videos: parts of 3, of 2 or 1, and of 1.
  for (const parts of [2, 4, 6]) {
    test(`outputs and gradients in ${parts} parts`, () => checkBlock(tf, store, definition(parts), ownKernels()));
    test(`outputs and gradients in ${parts} parts, with the reference kernels`, () => checkBlock(tf, store, definition(parts), REFERENCE));
  }
});

test("NeXtVLAD's sizes are inferred from matrices; an array without a shape counts as 1 by 1", () => {
  const names = nextvladNames("audio");
  const shapes = new Map<string, readonly number[]>([
    [names.expansion, [6, 12]],
    [names.attention, [12, 4]],
    [names.centers, [3, 3]],
  ]);
  const shapeOf = (name: string, rank: number): readonly number[] => {
    assert.equal(rank, 2, name);
    return shapes.get(name) ?? assert.fail(name);
  };
  assert.deepEqual(NEXTVLAD.inferSizes("audio", shapeOf), { features: 6, expansion: 2, groups: 4, clusters: 3 });
  assert.deepEqual(
    NEXTVLAD.inferSizes("audio", () => []),
    { features: 1, expansion: 1, groups: 1, clusters: 1 },
  );
});

for (const model of ["NEXTVLAD", "NETVLAD"] as const) {
  test(`a frozen aggregator outlives the scope that creates it, and frees all of its tensors: ${model}`, async () => {
    await loadForTests();
    const sizes: ModelSizes = model === "NEXTVLAD" ? SMALL : { ...SMALL, model, groups: 1, expansion: 1 };
    const [modality] = modalitiesOf(sizes) as [ModalitySizes];
    const store = randomStore(sizes);
    const layout = new RaggedLayout(Int32Array.of(4, 2));
    const use = (): Float32Array => {
      const options = { weights: store, precision: "float32", factor: 0.5 } as const;
      const aggregator = tidy(() => AGGREGATORS[model].freeze(modality, { ...options, kernels: ownKernels() }));
      const values = tidy(() => toFloats(aggregator.aggregate(bytesOf(6 * modality.features), layout)));
      aggregator.dispose();
      return values;
    };
    // The first use creates the shared constants.
    const first = use();
    const before = countTensors();
    assert.deepEqual(use(), first);
    assert.equal(countTensors(), before);
    store.dispose();
  });
}

describe("our kernels against the reference kernels", () => {
  before(() => loadForTests());

  test("a modality's descriptors and gradients, of any sizes and lengths, at once and in parts", () => {
    fc.assert(
      fc.property(SIZES, COUNTS, fc.integer({ min: 1, max: 4 }), SEED, (sizes, counts, partsOfOurs, seed) => {
        const store = randomStore(sizes, seed);
        const layout = new RaggedLayout(Int32Array.from(counts));
        const [modality] = modalitiesOf(sizes) as [ModalitySizes];
        const bytes = bytesOf(layout.frames * modality.features);
        const compute = (kernels: Kernels, parts: number) =>
          collect(store, kernels, (context, found) => {
            const { y, backward } = runToEnd(
              aggregateBatch(AGGREGATORS[sizes.model], { ...AT_ONCE, parts }, bytes, layout, modality, context),
            );
            found.set("y", toFloats(y));
            runToEnd(backward(statelessNormal(y.shape, [1, 2])));
          });
        const ours = compute(ownKernels(), partsOfOurs);
        const theirs = compute(REFERENCE, 1);
        const { clusterNorm } = nextvladNames(modality.name);
        const sums = [[clusterNorm.scale, clusterNorm.shift]];
        if (sizes.model === "NEXTVLAD") {
          const { attention, attentionBias } = nextvladNames(modality.name);
          sums.push([attention, attentionBias]);
        }
        // The gradient through two batch norms amplifies rounding: to 5e-4 of a gradient's norm at most, in 180 draws on a CPU.
        assertClose(ours, theirs, 5e-3, sums);
        store.dispose();
      }),
      { numRuns: 40 },
    );
  });

  test("batch norms of any size and mean equal double precision", () => {
    // TensorFlow's batch norm, which the CPU uses, loses digits if the mean is far from zero.
    const cases = fc.tuple(
      fc.integer({ min: 8, max: 1500 }),
      size(200),
      runtime().device.kind === "gpu" ? fc.constantFrom(0, 1000) : fc.constant(0),
    );
    fc.assert(
      fc.property(cases, ([rows, channels, far]) => {
        const store = randomStore({ ...SIZES_OF_NORM, hidden: channels });
        const names = HIDDEN_NORM;
        const x = tidy(() => toFloats(statelessNormal([rows, channels], [3, 4]))).map((value) => value + far);
        const dy = tidy(() => toFloats(statelessNormal([rows, channels], [5, 6])));
        const ours = collect(store, ownKernels(), (context, found) => {
          const { y, backward } = batchNorm(fromFloats(x, [rows, channels]), names, context);
          found.set("y", toFloats(y));
          found.set("dx", toFloats(backward(fromFloats(dy, [rows, channels]))));
        });
        const theirs = normInDoubles(x, dy, store.variable(names.scale).download(), store.variable(names.shift).download());
        assertClose(
          ours,
          new Map([
            ["y", theirs.y],
            ["dx", theirs.dx],
            [names.scale, theirs.dScale],
            [names.shift, theirs.dShift],
            [names.movingMean, theirs.mean],
            [names.movingVariance, theirs.variance],
          ]),
          1e-4,
        );
        store.dispose();
      }),
      { numRuns: 40 },
    );
  });

  // Rounding reaches 2e-5 in one draw of a thousand.
  test("a frozen network's probabilities, within 1e-4", () => {
    fc.assert(
      fc.property(SIZES, COUNTS, SEED, (sizes, counts, seed) => {
        const store = randomStore(sizes, seed);
        const frameCounts = Int32Array.from(counts);
        const frames = frameCounts.reduce((sum, count) => sum + count, 0);
        const input = { frameCounts, rgb: bytesOf(frames * sizes.rgbFeatures), audio: bytesOf(frames * sizes.audioFeatures) };
        const compute = (kernels: Kernels) => {
          const network = new FrozenNetwork(sizes, { descriptor: 0.5, hidden: 0 }, store, kernels);
          const values = tidy(() => toFloats(network.probabilities(input)));
          network.dispose();
          return values;
        };
        const ours = compute(ownKernels());
        for (const [i, value] of compute(REFERENCE).entries()) assert.ok(Math.abs(value - (ours[i] as number)) < 1e-4);
        store.dispose();
      }),
      { numRuns: 30 },
    );
  });

  test("a frozen network with integers: int16 is closer to float32 than int8", (t) => {
    if (runtime().device.kind === "gpu") return t.skip("the precisions int16 and int8 are for the CPU");
    const store = randomStore();
    const frameCounts = Int32Array.of(9, 4, 30);
    const input = { frameCounts, rgb: bytesOf(43 * SMALL.rgbFeatures), audio: bytesOf(43 * SMALL.audioFeatures) };
    const [exact, int16, int8] = (["float32", "int16", "int8"] as const).map((precision) => {
      const network = new FrozenNetwork(SMALL, { descriptor: 0.5, hidden: 0 }, store, ownKernels(), precision);
      const values = tidy(() => toFloats(network.probabilities(input)));
      network.dispose();
      return values;
    }) as [Float32Array, Float32Array, Float32Array];
    const errorOf = (values: Float32Array): number => Math.max(...values.map((value, i) => Math.abs(value - (exact[i] as number))));
    // Weights are exact to 2^-16 and 2^-8 of their column's largest value; the batch norms of three videos amplify the error a little.
    assert.ok(errorOf(int16) > 0 && errorOf(int16) < 1e-3, `int16: ${errorOf(int16)}`);
    assert.ok(errorOf(int8) > 10 * errorOf(int16) && errorOf(int8) < 0.1, `int8: ${errorOf(int8)}`);
    store.dispose();
  });
});

const SIZES_OF_NORM: ModelSizes = {
  model: "NEXTVLAD",
  classes: 3,
  clusters: 2,
  groups: 1,
  expansion: 1,
  hidden: 8,
  bottleneck: 2,
  mixtures: 1,
  rgbFeatures: 4,
  audioFeatures: 4,
};
