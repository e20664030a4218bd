import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { wrapCommand, wrapLine } from "../../src/base/wrap.js";

describe("a line", () => {
  test("that fits stays as it is, with its spaces and tabs", () => {
    assert.deepEqual(wrapLine("a  b\tc", 9), ["a  b\tc"]);
    assert.deepEqual(wrapLine("", 9), [""]);
  });

  test("is broken at spaces, and never in a word, a flag or a path", () => {
    assert.deepEqual(wrapLine("use another --save-dir, or --overwrite", 24), ["use another --save-dir,", "  or --overwrite"]);
    assert.deepEqual(wrapLine("results: /a/path/of/24/columns and more", 26), ["results:", "  /a/path/of/24/columns", "  and more"]);
  });

  test("keeps a word that fits no line where it is", () => {
    assert.deepEqual(wrapLine("results: /a/path/of/24/columns and more", 12), ["results: /a/path/of/24/columns", "  and more"]);
  });

  test("of a table continues at its last column, unless little room is left", () => {
    assert.deepEqual(wrapLine("ok       GPU    no NVIDIA driver, so the CPU is used", 36), [
      "ok       GPU    no NVIDIA driver, so",
      "                the CPU is used",
    ]);
    assert.deepEqual(wrapLine("            12 labels of classes", 24), ["            12 labels of", "            classes"]);
    assert.deepEqual(wrapLine("[VERIFY] done. \tshards: 3,\tvideos: 1", 30), ["[VERIFY] done. \tshards: 3,", "  videos: 1"]);
  });

  test("with a command stays whole, for copying", () => {
    for (const line of ["resume with: nextvlad train --config a.yaml", "model: --set MODEL.video_feature_size=1024"]) {
      assert.deepEqual(wrapLine(line, 20), [line]);
    }
  });
});

test("a command is broken between its flags, and is the same command for a shell", () => {
  const command = "printf %s, --weights data/best --filelist 'a*b' --format csv --overwrite";
  const lines = wrapCommand(command, 30);
  assert.deepEqual(lines, ["printf %s, \\", "  --weights data/best \\", "  --filelist 'a*b' \\", "  --format csv --overwrite"]);
  for (const line of lines) assert.ok(line.length <= 30);
  const run = (text: string): string => execFileSync("sh", ["-c", text], { encoding: "utf8" });
  assert.equal(run(lines.join("\n")), run(command));
  assert.deepEqual(wrapCommand("nextvlad doctor", 30), ["nextvlad doctor"]);
});
