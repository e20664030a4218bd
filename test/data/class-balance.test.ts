import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { countRepeated, drawRepeats, measureRepeatFactors, type RepeatFactors } from "../../src/data/class-balance.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { openStream, type StreamOptions } from "../../src/data/stream.js";
import type { Video } from "../../src/data/video.js";
import { temporaryFolder } from "../helpers/files.js";
import { examined } from "../helpers/shards.js";

const CLASSES = 5;

/** Class 0 is in every video with labels, class 1 in a third, class 2 in a tenth, class 3 in two, class 4 in none. Each seventh has no labels. */
function labelsOf(number: number): number[] {
  if (number % 7 === 0) return [];
  return [0, ...(number % 3 === 0 ? [1] : []), ...(number % 10 === 0 ? [2] : []), ...(number === 31 || number === 80 ? [3] : [])];
}

function video(number: number): Video {
  const labels = Int32Array.from(labelsOf(number));
  return { id: `v${number}`, frames: 1, rgb: Uint8Array.of(number), audio: new Uint8Array(0), labels };
}

test("videos of rare classes are repeated by the factors of LVIS, in all epochs; ranks and a resumed epoch have the same batches", async (t) => {
  const folder = temporaryFolder(t);
  const count = 120;
  const paths = [50, 40, 30].map((_, i) => join(folder, `${i}.tfrecord`));
  let number = 0;
  for (const [i, size] of [50, 40, 30].entries())
    await writeShard(
      paths[i] as string,
      Array.from({ length: size }, () => video(number++)),
    );
  const shards = paths.map(examined);
  const shape = { maxFrames: 9, featureNames: ["rgb", "audio"], featureSizes: [1, 0], numClasses: CLASSES, labels: "required" } as const;
  const factors = (await measureRepeatFactors(shards, shape, "error", null)) as RepeatFactors;

  const all = Array.from({ length: count }, (_, i) => labelsOf(i));
  const share = (label: number): number => all.filter((labels) => labels.includes(label)).length / count;
  const threshold = [0, 1, 2, 3].reduce((sum, label) => sum + share(label), 0) / 4;
  const expected = all.map((labels) => Math.max(1, ...labels.map((label) => Math.sqrt(threshold / share(label)))));
  const found = paths.flatMap((path) => [...(factors.get(path) as Float32Array)]);
  assert.equal(found.length, count);
  for (const [i, factor] of found.entries()) assert.ok(Math.abs(factor / (expected[i] as number) - 1) < 1e-6, `video ${i}: ${factor}`);
  assert.ok((expected[31] as number) > 3 && expected[7] === 1);
  const total = expected.reduce((sum, factor) => sum + factor);
  assert.deepEqual(countRepeated(shards, factors), { expected: Math.floor(total), videos: count });

  const options: StreamOptions = {
    ...shape,
    shards,
    order: "shuffled",
    seed: 3,
    epoch: 0,
    batchSize: 8,
    dropLast: false,
    shuffleBuffer: 20,
    readers: 1,
    repeatFactors: factors,
  };
  const read = async (changes: Partial<StreamOptions> = {}): Promise<(readonly [string, number])[][]> => {
    const batches: (readonly [string, number])[][] = [];
    for await (const { ids, rgb } of openStream({ ...options, ...changes })) batches.push(ids.map((id, i) => [id, rgb[i] ?? -1] as const));
    return batches;
  };
  const times = (batches: (readonly [string, number])[][]): number[] => {
    const seen = new Array<number>(count).fill(0);
    for (const [id, byte] of batches.flat()) {
      assert.equal(id, `v${byte}`);
      seen[byte] = (seen[byte] as number) + 1;
    }
    return seen;
  };
  const epochs = 12;
  const sums = new Array<number>(count).fill(0);
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (const [i, seen] of times(await read({ epoch })).entries()) {
      const factor = expected[i] as number;
      assert.ok(seen === Math.floor(factor) || seen === Math.ceil(factor), `video ${i}: ${seen} times, factor ${factor}`);
      sums[i] = (sums[i] as number) + seen;
    }
  }
  const mean = sums.reduce((sum, seen) => sum + seen) / epochs;
  // Each draw has a variance of at most 1/4: within four standard deviations.
  assert.ok(Math.abs(mean - total) < 4 * Math.sqrt(count / 4 / epochs), `${mean} videos per epoch, expected ${total}`);

  const whole = await read();
  for (const skipBatches of [1, 7, 12]) assert.deepEqual(await read({ skipBatches, firstCorrupt: [] }), whole.slice(skipBatches));
  // Ranks that read their own videos by the record headers. An incomplete batch is dropped in training.
  const complete = whole.filter((batch) => batch.length === 8);
  const ofRanks = await Promise.all(
    [0, 1].map((rank) => read({ dropLast: true, share: { rank, size: 2, divides: "each batch", readsOwn: true } })),
  );
  assert.deepEqual(
    complete.map((_, i) => ofRanks.flatMap((batches) => batches[i] ?? [])),
    complete,
  );
});

test("a draw rounds the factor up with the probability of its fraction", () => {
  const draws = Array.from({ length: 10_000 }, (_, i) => drawRepeats(2.25, 1, 2, 3, i));
  assert.deepEqual([...new Set(draws)].sort(), [2, 3]);
  const share = draws.filter((repeats) => repeats === 3).length / draws.length;
  // Within four standard deviations.
  assert.ok(Math.abs(share - 0.25) < 4 * Math.sqrt((0.25 * 0.75) / draws.length), `${share}`);
  assert.ok(draws.every((_, i) => drawRepeats(1, 1, 2, 3, i) === 1));
});
