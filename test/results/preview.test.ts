import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readLabelNames } from "../../src/results/label-names.js";
import { formatBar, formatPrediction } from "../../src/results/preview.js";
import { temporaryFolder } from "../helpers/files.js";

const prediction = {
  id: "vid\u001b[2Jx",
  scores: Float32Array.from([0.98, 0.5, 0.25, 0.1, 0.01, 0.001]),
  classes: Int32Array.from([3, 0, 2, 1, 4, 5]),
};

test("a video's classes fit the terminal, with names and without control characters", async (t) => {
  const file = join(temporaryFolder(t), "names.txt");
  writeFileSync(
    file,
    `Vehicle\nGame\nA name that is much longer than the terminal is wide, so that it is shortened\n\u001b[31mRed\nCar\nDog\n`,
  );
  const names = await readLabelNames(file, 6);
  for (const columns of [60, 80, 200]) {
    const lines = formatPrediction(prediction, names, columns);
    assert.equal(lines.length, 6);
    assert.equal(lines[0], "vid\\x1B[2Jx");
    for (const line of lines) assert.ok(line.length <= columns, `${columns}: ${line}`);
    assert.match(lines[1] as string, /^ {2}0\.980 █{14,24}\S? *3 \\x1B\[31mRed$/);
    assert.match(lines[2] as string, /^ {2}0\.500 █+\S? +0 Vehicle$/);
  }
  assert.match(formatPrediction(prediction, null, 80)[1] as string, /^ {2}0\.980 \S+ +3$/);
});

test("bars have eighths of a character", () => {
  assert.equal(formatBar(1, 4), "████");
  assert.equal(formatBar(0, 4), "");
  assert.equal(formatBar(0.5, 3), "█▌");
  assert.equal(formatBar(1 / 32, 4), "▏");
});
