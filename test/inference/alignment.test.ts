import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { alignVideos, PredictionStore, type Source } from "../../src/inference/alignment.js";
import type { Prediction } from "../../src/results/result-codecs.js";
import { collect, failsWith } from "../helpers/shards.js";

/** A video's predictions, told apart by where they come from. */
function video(id: string, mark: number, length = 2): Prediction {
  return { id, scores: new Float32Array(length).fill(mark), classes: Int32Array.from({ length }, (_, i) => i + mark) };
}

function source(name: string, ids: readonly string[], mark: number): Source {
  async function* predictions(): AsyncGenerator<Prediction> {
    for (const id of ids) yield video(id, mark, id.length);
  }
  return { name, predictions: predictions() };
}

const align = (...[first, ...others]: [Source, ...Source[]]) => collect(alignVideos([first, ...others]));

test("joins sources in any order, in the order of the first", async () => {
  const ids = fc.uniqueArray(fc.string(), { maxLength: 30 });
  const orders = ids.chain((all) => {
    const order = fc.shuffledSubarray(all, { minLength: all.length });
    return fc.tuple(order, order, order);
  });
  await fc.assert(
    fc.asyncProperty(orders, async ([a, b, c]) => {
      const found = await align(source("a", a, 1), source("b", b, 2), source("c", c, 3));
      assert.deepEqual(
        found,
        a.map((id) => ({ id, predictions: [1, 2, 3].map((mark) => video(id, mark, id.length)) })),
      );
    }),
  );
});

test("repeated and missing videos are errors, whatever the order", async () => {
  const sets = fc.tuple(fc.array(fc.constantFrom(..."abcdef")), fc.array(fc.constantFrom(..."abcdef")));
  await fc.assert(
    fc.asyncProperty(sets, async ([a, b]) => {
      const isRight =
        new Set(a).size === a.length && new Set(b).size === b.length && a.length === b.length && a.every((id) => b.includes(id));
      const aligned = align(source("A", a, 1), source("B", b, 2));
      if (isRight) assert.equal((await aligned).length, a.length);
      else await failsWith(aligned, "BAD_RESULTS");
    }),
    { numRuns: 500 },
  );
});

test("the error lists the first missing videos, their number, and the files", async () => {
  const many = Array.from({ length: 9 }, (_, i) => `v${i}`);
  const missing = await failsWith(align(source("A", many, 1), source("B", ["v8", "x"], 2)), "BAD_RESULTS");
  assert.match(
    missing.message,
    /^B does not contain 8 videos of A: v0, v1, v2 and 5 more; A does not contain a video of B: x\. Use results/,
  );
  await failsWith(align(source("A", ["a", "b", "a"], 1), source("B", ["b", "a"], 2)), "BAD_RESULTS", { file: "A", video: "a" });
  await failsWith(align(source("A", ["a", "b"], 1), source("B", ["b", "b", "a"], 2)), "BAD_RESULTS", { file: "B", video: "b" });
  await failsWith(align(source("A", ["a"], 1), source("B", ["a", "a"], 2)), "BAD_RESULTS", { file: "B", video: "a" });
});

test("closes all sources, whether read to the end or not", async () => {
  const closed: string[] = [];
  async function* watched(name: string): AsyncGenerator<Prediction> {
    try {
      for (const id of "abc") yield video(id, 1);
    } finally {
      closed.push(name);
    }
  }
  for await (const { id } of alignVideos([
    { name: "A", predictions: watched("A") },
    { name: "B", predictions: watched("B") },
  ])) {
    if (id === "b") break;
  }
  assert.deepEqual(closed.sort(), ["A", "B"]);
});

test("returns what was stored, and keeps what was not removed", () => {
  // Lengths that fill pages, and one that no page holds.
  const action = fc.tuple(fc.boolean(), fc.nat(40), fc.oneof(fc.nat(20), fc.constantFrom(30_000, 65_535, 65_536, 100_000)));
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const store = new PredictionStore();
      const model = new Map<string, Prediction>();
      for (const [puts, number, length] of actions) {
        const id = `v${number}`;
        if (puts) {
          const prediction = video(id, length % 7, length);
          assert.equal(store.put(prediction), !model.has(id));
          if (!model.has(id)) model.set(id, prediction);
        } else {
          const [found, expected] = [store.take(id), model.get(id)];
          assert.equal(found?.scores.length, expected?.scores.length);
          if (found !== null && expected !== undefined) {
            assert.ok(Buffer.from(found.scores.buffer).equals(Buffer.from(expected.scores.buffer)));
            assert.ok(Buffer.from(found.classes.buffer).equals(Buffer.from(expected.classes.buffer)));
          }
          model.delete(id);
        }
      }
      assert.deepEqual([...store.ids()], [...model.keys()]);
    }),
    { numRuns: 100 },
  );
});
