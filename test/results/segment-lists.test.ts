import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createRandom } from "../../src/base/random.js";
import type { Prediction } from "../../src/results/result-codecs.js";
import { writeResults } from "../../src/results/result-writer.js";
import { assertListable, type ListLimits, readSegmentClasses, writeSegmentLists } from "../../src/results/segment-lists.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

/** Predictions of 3 of 7 classes, with many equal scores; never of class 4. */
function predictions(): Prediction[] {
  const random = createRandom(1, "digits");
  return Array.from({ length: 90 }, (_, i) => {
    const classes = random.shuffle([0, 1, 2, 3, 5, 6]).slice(0, 3);
    const scores = Float32Array.from(classes, () => random.below(6) / 8)
      .sort()
      .reverse();
    return { id: `v:${Math.floor(i / 4)}:${5 * (i % 4)}`, scores, classes: Int32Array.from(classes) };
  });
}

/** The rows that the definition gives: all predictions of a class, sorted by score. */
function expectedRows(all: readonly Prediction[], maxSegments: number): string[] {
  return [0, 1, 2, 3, 5, 6].map((c) => {
    const scored = all.flatMap(({ id, scores, classes }) =>
      classes.includes(c) ? [{ id, score: scores[classes.indexOf(c)] as number }] : [],
    );
    return `${c},${scored
      .toSorted((a, b) => b.score - a.score)
      .slice(0, maxSegments)
      .map(({ id }) => id)
      .join(" ")}`;
  });
}

test("each class lists its most probable segments, whatever fits into memory at once", async (t) => {
  const folder = temporaryFolder(t);
  const all = predictions();
  await writeResults({ path: join(folder, "a"), formats: ["pickle", "jsonl"], names: null }, async (writer) => {
    for (const prediction of all) await writer.write(prediction);
    return { stopped: false };
  });
  const rows = async (results: string, limits?: ListLimits): Promise<string[]> => {
    const file = join(folder, "lists.csv");
    await writeSegmentLists(join(folder, results), file, limits);
    const [header, ...lines] = readFileSync(file, "utf8").trimEnd().split("\n");
    assert.equal(header, "Class,Segments");
    return lines;
  };
  assert.deepEqual(await rows("a.pkl"), expectedRows(all, 100_000));
  assert.deepEqual(await rows("a.jsonl"), expectedRows(all, 100_000));
  for (const segments of [1, 7, 20]) {
    for (const entries of [1, 30, 1000]) assert.deepEqual(await rows("a.pkl", { segments, entries }), expectedRows(all, segments));
  }
});

test("the classes of segments are read from YouTube-8M's file; other lines are errors", async (t) => {
  const path = join(temporaryFolder(t), "classes.csv");
  const read = (text: string): Promise<Int32Array> => {
    writeFileSync(path, text);
    return readSegmentClasses(path, 9);
  };
  assert.deepEqual(await read("Index\n3\n8\n\n7\r\n3\n"), Int32Array.of(3, 7, 8));
  assert.deepEqual(await read("0\n5"), Int32Array.of(0, 5));
  await failsWith(read("Index\n3\n9\n"), "BAD_LABELS", { file: path, line: 3 });
  await failsWith(read("-1\n"), "BAD_LABELS", { file: path, line: 1 });
  await failsWith(read("Index\n1.5\n"), "BAD_LABELS", { line: 2 });
  await failsWith(read("Index\n"), "BAD_LABELS", { file: path });
});

test("an ID with a space is an error, because spaces separate the segments", async () => {
  assertListable(["a:0", "b:5"]);
  await failsWith(
    Promise.resolve().then(() => assertListable(["a:0", "my cat:5"])),
    "BAD_VIDEO",
    { video: "my cat:5" },
  );
});
