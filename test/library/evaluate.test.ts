import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { evaluate } from "../../src/index.js";

interface GoldenCase {
  readonly name: string;
  readonly classes: number;
  /** base64 of `[videos, classes] float32`. */
  readonly predictions: string;
  readonly labels: readonly number[][];
  readonly expected: Readonly<Record<"hit_at_one" | "perr" | "gap" | "map", number>>;
}

const goldenCases = JSON.parse(readFileSync(new URL("../../../test/golden/metrics/cases.json", import.meta.url), "utf8")) as GoldenCase[];

describe("metrics equal those of numpy after YouTube-8M's eval_util", () => {
  for (const { name, classes, predictions, labels, expected } of goldenCases.filter((each) =>
    each.labels.some((list) => list.length > 0),
  )) {
    test(name, async () => {
      const all = new Float32Array(Uint8Array.from(Buffer.from(predictions, "base64")).buffer);
      const videos = labels.map((list, i) => ({ probabilities: all.subarray(i * classes, (i + 1) * classes), labels: list }));
      const found = await evaluate(videos);
      const pairs = [
        [found.hitAtOne, expected.hit_at_one],
        [found.perr, expected.perr],
        [found.gap, expected.gap],
        [found.map, expected.map],
      ] as const;
      // float64 sums in another order.
      for (const [ours, theirs] of pairs) assert.ok(Math.abs(ours - theirs) <= 1e-12, `${ours} is not ${theirs}`);
    });
  }
});

test("labels may be any iterable; a repeated one counts once", async () => {
  const probabilities = Float32Array.of(0.1, 0.9, 0.3);
  const { perr, gap } = await evaluate([
    { probabilities, labels: new Set([1]) },
    { probabilities, labels: [1, 1] },
  ]);
  assert.deepEqual([perr, gap], [1, 1]);
});

test("predictions that have no metrics are errors; videos without labels are a warning", async () => {
  const probabilities = Float32Array.of(0.5, 0.5);
  await assert.rejects(evaluate([]), { code: "TOO_FEW_VIDEOS" });
  await assert.rejects(evaluate([{ probabilities, labels: [] }]), { code: "BAD_LABELS" });
  await assert.rejects(evaluate([{ probabilities, labels: [2] }]), { code: "BAD_LABELS" });
  await assert.rejects(evaluate([{ probabilities: Float32Array.of(Number.NaN, 0), labels: [0] }]), { code: "NOT_FINITE" });
  const others = [
    { probabilities, labels: [0] },
    { probabilities: Float32Array.of(1), labels: [0] },
  ];
  await assert.rejects(evaluate(others), { code: "BAD_USAGE", message: /expected 2, found 1/ });

  // Warnings of the tests above may arrive too.
  const expected = "predictions: 1 of 2 videos have no labels; they count as misses";
  const warned = new Promise<Error>((resolve) => {
    process.on("warning", (warning) => warning.message === expected && resolve(warning));
  });
  const { videosWithoutLabels } = await evaluate([
    { probabilities, labels: [0] },
    { probabilities, labels: [] },
  ]);
  assert.equal(videosWithoutLabels, 1);
  assert.equal((await warned).name, "NextvladWarning");
});
