import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { countTensors } from "../../src/runtime/constants.js";
import { tidy } from "../../src/runtime/tensor.js";
import { fromFloats, toFloats } from "../../src/runtime/transfer.js";
import { Teacher } from "../../src/training/teacher.js";
import { loadForTests } from "../helpers/device.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";
import { configWith } from "../helpers/start.js";

describe("a teacher", () => {
  before(() => loadForTests());

  test("softens labels: the share teacher_weight of the targets are its probabilities, 0 for classes that it does not list", async (t) => {
    const folder = temporaryFolder(t);
    const files = ["one.csv", "two.csv"].map((name) => join(folder, name));
    writeFileSync(files[0] as string, "VideoId,LabelConfidencePairs\na,2 0.5 0 0.25\n");
    writeFileSync(files[1] as string, "VideoId,LabelConfidencePairs\nb,6 1\nc,\n");
    const teacher = (await Teacher.read(configWith({ teacher: files, teacher_weight: 0.25 }))) as Teacher;
    const tensors = countTensors();
    const labels = [...[0, 1, 1, 0, 0, 0, 0], ...[1, 0, 0, 0, 0, 0, 1], ...[0, 0, 0, 1, 0, 0, 0]];
    const targets = tidy(() => toFloats(teacher.soften(fromFloats(Float32Array.from(labels), [3, 7]), ["a", "b", "c"])));
    assert.equal(countTensors(), tensors);
    // All of these are exact in float32.
    const expected = [...[0.0625, 0.75, 0.875, 0, 0, 0, 0], ...[0.75, 0, 0, 0, 0, 0, 1], ...[0, 0, 0, 0.75, 0, 0, 0]];
    assert.deepEqual([...targets], expected);
    const soften = async (): Promise<void> => void tidy(() => teacher.soften(fromFloats(new Float32Array(21), [3, 7]), ["x", "b", "y"]));
    const missing = await failsWith(soften(), "BAD_RESULTS", { key: "TRAIN.teacher" });
    assert.match(missing.message, /2 of 3 videos of a batch are missing in the teacher's results, such as x/);
  });

  test("is null without files; a repeated video and an unknown class are errors", async (t) => {
    assert.equal(await Teacher.read(configWith()), null);
    const folder = temporaryFolder(t);
    const read = async (text: string): Promise<unknown> => {
      const file = join(folder, "results.csv");
      writeFileSync(file, `VideoId,LabelConfidencePairs\n${text}`);
      return Teacher.read(configWith({ teacher: file }));
    };
    await failsWith(read("a,1 0.5\na,1 0.5\n"), "BAD_RESULTS", { video: "a" });
    await failsWith(read("a,7 0.5\n"), "BAD_RESULTS", { video: "a", found: 7 });
    await failsWith(Teacher.read(configWith({ teacher: join(folder, "missing.pkl") })), "FILE_MISSING");
  });
});
