import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { aggregateStream } from "../../src/model/aggregator.js";
import { normaliseBatch } from "../../src/model/batch-norm.js";
import type { TrainingContext } from "../../src/model/block.js";
import { featuresOf } from "../../src/model/features.js";
import { FrozenNetwork } from "../../src/model/frozen-network.js";
import { batchNormNames } from "../../src/model/parameters.js";
import { RaggedLayout } from "../../src/model/ragged.js";
import { type ModelSizes, type StreamSizes, streamsOf } from "../../src/model/sizes.js";
import type { WeightStore } from "../../src/model/weight-store.js";
import { TENSORFLOW_KERNELS } from "../../src/tensorflow/kernel-choice.js";
import { statelessNormal } from "../../src/tensorflow/random-kernels.js";
import { runtime, tidy } from "../../src/tensorflow/runtime.js";
import { fromFloats, toFloats } from "../../src/tensorflow/transfer.js";
import { copyOf, randomStore } from "../helpers/blocks.js";
import { loadForTests } from "../helpers/device.js";

/** Sizes around the edges of warps (32) and chunks of rows (512). */
const size = (most: number): fc.Arbitrary<number> => fc.oneof(fc.integer({ min: 1, max: most }), fc.constantFrom(1, 31, 32, 33, 64, 128));

function assertClose(ours: ReadonlyMap<string, Float32Array>, theirs: ReadonlyMap<string, Float32Array>, tolerance: number): void {
  assert.deepEqual([...ours.keys()].sort(), [...theirs.keys()].sort());
  for (const [name, values] of theirs) {
    const mine = ours.get(name) as Float32Array;
    assert.equal(mine.length, values.length, name);
    const difference = Math.sqrt(values.reduce((sum, value, i) => sum + (value - (mine[i] as number)) ** 2, 0));
    const norm = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
    assert.ok(difference <= tolerance * norm + 1e-2 * tolerance * Math.sqrt(values.length), `${name}: ${difference} of ${norm}`);
  }
}

/** What a block makes, and all that it hands on. */
function collect(work: (context: Omit<TrainingContext, "weights">, found: Map<string, Float32Array>) => void): Map<string, Float32Array> {
  const found = new Map<string, Float32Array>();
  tidy(() =>
    work(
      {
        takeGradient: (name, gradient) => void found.set(name, toFloats(gradient)),
        takeProduct: () => assert.fail("no dense layer is here"),
        takeStatistics: ({ movingMean, movingVariance }, mean, variance) => {
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

const SIZES: fc.Arbitrary<ModelSizes> = fc.record({
  classes: fc.constant(5),
  // With 640, a thread of a GPU has as many values as it may have registers.
  clusters: fc.oneof(
    { weight: 9, arbitrary: size(140).map((clusters) => Math.max(2, clusters)) },
    { weight: 1, arbitrary: fc.constant(640) },
  ),
  groups: fc.constantFrom(1, 2, 8),
  expansion: fc.constant(2),
  hidden: fc.constant(8),
  gate: fc.constant(2),
  videoFeatures: fc.constantFrom(20, 64),
  audioFeatures: fc.constant(4),
});
/** At least four videos, of three frames: with fewer, the batch norms leave hardly a gradient but rounding. */
const COUNTS = fc.array(fc.integer({ min: 3, max: 60 }), { minLength: 4, maxLength: 8 });
const bytesOf = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => (i * 97 + Math.floor(i / 7) * 13) % 256);

describe("our kernels for the device against other ways to compute", () => {
  before(() => loadForTests());

  test("a stream's descriptors and gradients, of any sizes and lengths", () => {
    fc.assert(
      fc.property(SIZES, COUNTS, (sizes, counts) => {
        const store = randomStore(sizes);
        const layout = new RaggedLayout(Int32Array.from(counts));
        const [stream] = streamsOf(sizes) as [StreamSizes];
        const bytes = bytesOf(layout.frames * stream.features);
        const compute = (weights: WeightStore) =>
          collect((context, found) => {
            const x = featuresOf(bytes, layout.frames, stream, weights);
            const { y, backward } = aggregateStream(x, layout, stream, sizes, { ...context, weights });
            found.set("y", toFloats(y));
            backward(statelessNormal(y.shape, [1, 2]));
          });
        const other = copyOf(store, TENSORFLOW_KERNELS);
        const ours = compute(store);
        const theirs = compute(other);
        // The way back through two batch norms magnifies rounding: to 5e-4 of a gradient's norm at most, in 180 draws on a CPU.
        assertClose(ours, theirs, 5e-3);
        store.dispose();
        other.dispose();
      }),
      { numRuns: 40 },
    );
  });

  test("batch norms of any size, far from zero too, as double precision has them", () => {
    // TensorFlow's own, which serves on a CPU, loses digits to a mean far from zero.
    const cases = fc.tuple(
      fc.integer({ min: 8, max: 1500 }),
      size(200),
      runtime().device.kind === "gpu" ? fc.constantFrom(0, 1000) : fc.constant(0),
    );
    fc.assert(
      fc.property(cases, ([rows, channels, far]) => {
        const store = randomStore({ ...SIZES_OF_NORM, hidden: channels });
        const names = batchNormNames(4);
        const x = tidy(() => toFloats(statelessNormal([rows, channels], [3, 4]))).map((value) => value + far);
        const dy = tidy(() => toFloats(statelessNormal([rows, channels], [5, 6])));
        const ours = collect((context, found) => {
          const { y, backward } = normaliseBatch(fromFloats(x, [rows, channels]), names, { ...context, weights: store });
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
      fc.property(SIZES, COUNTS, (sizes, counts) => {
        const store = randomStore(sizes);
        const frameCounts = Int32Array.from(counts);
        const frames = frameCounts.reduce((sum, count) => sum + count, 0);
        const input = { frameCounts, rgb: bytesOf(frames * sizes.videoFeatures), audio: bytesOf(frames * sizes.audioFeatures) };
        const compute = (weights: WeightStore) => {
          const network = new FrozenNetwork(sizes, 0.5, weights);
          const values = tidy(() => toFloats(network.probabilities(input)));
          network.dispose();
          return values;
        };
        const other = copyOf(store, TENSORFLOW_KERNELS);
        const ours = compute(store);
        for (const [i, value] of compute(other).entries()) assert.ok(Math.abs(value - (ours[i] as number)) < 1e-4);
        store.dispose();
        other.dispose();
      }),
      { numRuns: 30 },
    );
  });
});

const SIZES_OF_NORM: ModelSizes = {
  classes: 3,
  clusters: 2,
  groups: 1,
  expansion: 1,
  hidden: 8,
  gate: 2,
  videoFeatures: 4,
  audioFeatures: 4,
};
