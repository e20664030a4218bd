import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSummary } from "../../src/evaluation/summary.js";

const CLASSES = 14;

/** Classes 0 to 12 have videos and an average precision of c / 13; class 13 has neither. Classes 3 and 4 are equal. */
const aps = Float64Array.from({ length: CLASSES }, (_, c) => (c === 13 ? 0 : (c === 4 ? 3 : c) / 13));
const positives = Float64Array.from({ length: CLASSES }, (_, c) => (c === 13 ? 0 : 100 + c));
const metrics = {
  ...{ hit_at_one: 0.5, perr: 0.25, gap: 1, map: 0, loss: 1.23456, videos: 7, videos_without_labels: 0 },
  aps,
};

/** Returns the classes after a heading. */
function classesBelow(lines: readonly string[], heading: string): readonly string[] {
  const start = lines.findIndex((line) => line.startsWith(heading)) + 1;
  assert.ok(start > 0, heading);
  const end = lines.findIndex((line, i) => i >= start && !line.startsWith("  "));
  return lines.slice(start, end < 0 ? undefined : end).map((line) => / (\d+)$/.exec(line)?.[1] ?? line);
}

test("the summary has the metrics, and the 5 best and worst classes with videos", () => {
  const lines = formatSummary({ metrics, positives, nameOf: null }, 80);
  assert.equal(lines[0], "7 videos, 14 classes");
  assert.match(lines[1] as string, /^ {2}Hit@1 {3}0\.5000 █{10}$/);
  assert.match(lines[3] as string, /^ {2}GAP {5}1\.0000 █{20}$/);
  assert.equal(lines[5], "  loss    1.2346");
  assert.deepEqual(classesBelow(lines, "best classes"), ["12", "11", "10", "9", "8"]);
  // Of the equal classes 3 and 4, the one with more videos comes first.
  assert.deepEqual(classesBelow(lines, "worst classes"), ["0", "1", "2", "4", "3"]);
  assert.match(lines.find((line) => / 12$/.test(line)) as string, /^ {2}0\.923 \S+ +112 12$/);
});

test("up to 10 classes with videos are listed once", () => {
  const few = positives.map((count, c) => (c < 3 ? count : 0));
  const lines = formatSummary({ metrics, positives: few, nameOf: null }, 80);
  assert.deepEqual(classesBelow(lines, "classes"), ["2", "1", "0"]);
  assert.ok(!lines.some((line) => line.startsWith("best")));
});

test("lines fit the terminal, with names and without control characters; the full ranking is added", () => {
  const nameOf = (c: number): string | null => (c === 5 ? null : `\u001b[31mname ${c} ${"long ".repeat(40)}`);
  const full = { map: 0.5, mauc: 0.9, d_prime: 1.8, classes: 13, aps, aucs: aps };
  for (const columns of [20, 60, 80, 200]) {
    const lines = formatSummary({ metrics: { ...metrics, full_ranking: full }, positives, nameOf }, columns);
    for (const line of lines) assert.ok(line.length <= columns && !line.includes("\u001b"), `${columns}: ${line}`);
    if (columns < 60) continue;
    assert.ok(lines.includes("full ranking of 13 classes with videos"));
    assert.ok(lines.includes("  d-prime 1.8000"));
    assert.match(lines.find((line) => line.includes(" 12 ")) as string, / 112 12 \\x1B\[31mname 12 long/);
  }
});
