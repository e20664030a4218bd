import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { drawMixes } from "../../src/data/mixup.js";
import { shardAt } from "../../src/data/shard.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { openStream, type StreamOptions } from "../../src/data/stream.js";
import type { RaggedBatch, Video } from "../../src/data/video.js";
import { temporaryFolder } from "../helpers/files.js";

test("each video has another one of its batch as partner, each once; weights and partners depend on seed, epoch and batch", () => {
  const draw = (seed: number, epoch: number, batch: number) => drawMixes(50, { alpha: 1, epoch }, seed, batch);
  const mixes = draw(1, 2, 3);
  assert.deepEqual(
    mixes.map(({ partner }) => partner).sort((a, b) => a - b),
    [...Array(50).keys()],
  );
  assert.ok(mixes.every(({ partner }, video) => partner !== video));
  assert.deepEqual(draw(1, 2, 3), mixes);
  for (const other of [draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0)]) {
    assert.notDeepEqual(
      other.map(({ partner }) => partner),
      mixes.map(({ partner }) => partner),
    );
    assert.notDeepEqual(
      other.map(({ weight }) => weight),
      mixes.map(({ weight }) => weight),
    );
  }
});

/** Cumulative distribution functions of Beta(alpha, alpha) in closed form. */
const DISTRIBUTIONS: readonly [alpha: number, cdf: (x: number) => number][] = [
  [0.5, (x) => (2 / Math.PI) * Math.asin(Math.sqrt(x))],
  [1, (x) => x],
  [2, (x) => 3 * x ** 2 - 2 * x ** 3],
  [3, (x) => 10 * x ** 3 - 15 * x ** 4 + 6 * x ** 5],
];

for (const [alpha, cdf] of DISTRIBUTIONS) {
  test(`the weights are distributed as Beta(${alpha}, ${alpha})`, () => {
    const count = 20_000;
    const weights = drawMixes(count, { alpha, epoch: 0 }, 7, 0)
      .map(({ weight }) => weight / 2 ** 16)
      .sort((a, b) => a - b);
    const distance = Math.max(...weights.map((x, i) => Math.max(Math.abs((i + 1) / count - cdf(x)), Math.abs(i / count - cdf(x)))));
    // Kolmogorov and Smirnov's test: a larger distance has a probability of 1e-5; rounding to 2^-16 adds up to 0.003 at the ends of alpha = 0.5.
    assert.ok(distance < 2.47 / Math.sqrt(count) + (alpha < 1 ? 0.003 : 0), `${distance}`);
  });
}

test("weights of any alpha are in 0 to 1, and of a large one close to 1/2", () => {
  for (const alpha of [1e-30, 1e-3, 1e3]) {
    for (const { weight } of drawMixes(100, { alpha, epoch: 0 }, 0, 0)) {
      assert.ok(Number.isInteger(weight) && weight >= 0 && weight <= 2 ** 16, `${weight}`);
      if (alpha === 1e3) assert.ok(Math.abs(weight / 2 ** 16 - 0.5) < 0.1);
    }
  }
});

const SIZES = [5, 3] as const;

function video(number: number): Video {
  const frames = 1 + (number % 4);
  const bytes = (size: number): Uint8Array => Uint8Array.from({ length: frames * size }, (_, i) => (number * 37 + i * 101) % 256);
  const labels = Int32Array.from(new Set([number % 3, 3 + (number % 4)]));
  return { id: `v${number}`, frames, rgb: bytes(SIZES[0]), audio: bytes(SIZES[1]), labels };
}

async function batchesOf(options: StreamOptions): Promise<RaggedBatch[]> {
  const batches: RaggedBatch[] = [];
  for await (const batch of openStream(options)) batches.push(structuredClone(batch));
  return batches;
}

test("a stream mixes frames and labels by the weights; ranks get their videos of the same batches, and a resumed epoch its rest", async (t) => {
  const path = join(temporaryFolder(t), "a.tfrecord");
  await writeShard(
    path,
    Array.from({ length: 40 }, (_, number) => video(number)),
  );
  const options: StreamOptions = {
    maxFrames: 300,
    featureNames: ["rgb", "audio"],
    featureSizes: SIZES,
    numClasses: 7,
    labels: "required",
    shards: [{ ...shardAt(path, null), bytes: 1 }],
    order: "shuffled",
    seed: 5,
    epoch: 1,
    batchSize: 12,
    dropLast: true,
    shuffleBuffer: 16,
    readers: 1,
  };
  const mixup = { alpha: 1, epoch: 1 };
  const plain = await batchesOf(options);
  const mixed = await batchesOf({ ...options, mixup });
  assert.deepEqual([plain.length, mixed.length], [3, 3]);
  for (const [index, { ids, frameCounts, rgb, audio, labels, labelWeights = [] }] of mixed.entries()) {
    const sources = plain[index] as RaggedBatch;
    assert.deepEqual(ids, sources.ids);
    assert.deepEqual(frameCounts, sources.frameCounts);
    const mixes = drawMixes(12, mixup, 5, index);
    let frame = 0;
    for (const [i, { partner, weight }] of mixes.entries()) {
      const [own, other] = [i, partner].map((at) => video(Number(sources.ids[at]?.slice(1)))) as [Video, Video];
      const share = weight / 2 ** 16;
      for (let f = 0; f < own.frames; f++) {
        for (const [found, size, of] of [
          [rgb, SIZES[0], ({ rgb }: Video) => rgb],
          [audio, SIZES[1], ({ audio }: Video) => audio],
        ] as const)
          for (let k = 0; k < size; k++) {
            const exact = share * (of(own)[f * size + k] as number) + (1 - share) * (of(other)[(f % other.frames) * size + k] as number);
            assert.ok(Math.abs((found[(frame + f) * size + k] as number) - exact) <= 0.5, `video ${i}, frame ${f}`);
          }
      }
      frame += own.frames;
      const both = [...own.labels, ...other.labels];
      assert.deepEqual(
        [...(labels[i] as Int32Array)],
        [...new Set(both)].sort((a, b) => a - b),
      );
      for (const [k, label] of (labels[i] as Int32Array).entries()) {
        const expected = (own.labels.includes(label) ? share : 0) + (other.labels.includes(label) ? 1 - share : 0);
        assert.equal(labelWeights[i]?.[k], Math.fround(expected));
      }
    }
    assert.deepEqual([rgb.length, audio.length], [frame * SIZES[0], frame * SIZES[1]]);
  }
  assert.deepEqual(await batchesOf({ ...options, mixup, skipBatches: 2 }), mixed.slice(2));
  const ofRanks = await Promise.all(
    [0, 1].map((rank) => batchesOf({ ...options, mixup, share: { rank, size: 2, divides: "each batch", readsOwn: false } })),
  );
  for (const [index, { ids, labelWeights = [], ...whole }] of mixed.entries()) {
    const parts = ofRanks.map((batches) => batches[index] as RaggedBatch);
    assert.deepEqual(
      parts.flatMap(({ ids }) => ids),
      ids,
    );
    assert.deepEqual(
      parts.flatMap(({ labelWeights = [] }) => labelWeights),
      labelWeights,
    );
    assert.deepEqual(
      parts.flatMap(({ labels }) => labels),
      whole.labels,
    );
    for (const name of ["frameCounts", "rgb", "audio"] as const) {
      assert.deepEqual(
        parts.flatMap((part) => [...part[name]]),
        [...whole[name]],
      );
    }
  }
});
