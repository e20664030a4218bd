import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { repository, runToEnd, scratch } from "./nextvlad.js";

const script = (path: string): string => join(repository, "scripts", path);

describe("PaddleVideo's scripts, from any folder", () => {
  test("training takes the published recipe, and passes arguments on", async (context) => {
    const cwd = scratch(context);
    const ended = await runToEnd(script("train/train_nextvlad.sh"), ["--use_gpu", "Maybe"], { cwd });
    assert.deepEqual([ended.exitCode, ended.stdout], [2, ""]);
    assert.match(ended.stderr, /^nextvlad: error: --use-gpu: invalid value .*found "Maybe"\)\.\n$/);
  });

  test("an argument wins over the script's own, and its path is the caller's", async (context) => {
    const cwd = scratch(context);
    const ended = await runToEnd(script("train/train_nextvlad.sh"), ["--config", "mine.yaml"], { cwd });
    assert.deepEqual([ended.exitCode, ended.stderr], [1, "nextvlad: error: mine.yaml: no such file. Check the path.\n"]);
  });

  for (const path of ["test/test_nextvlad.sh", "infer/infer_nextvlad.sh"]) {
    test(`${path} takes the best snapshot`, async (context) => {
      const ended = await runToEnd(script(path), [], { cwd: scratch(context) });
      assert.equal(ended.exitCode, 1);
      assert.match(ended.stderr, /^nextvlad: error: data\/checkpoints\/best: .*\n$/);
    });
  }

  test("what is not built yet is told", async (context) => {
    const folder = scratch(context);
    cpSync(script("train"), join(folder, "scripts/train"), { recursive: true });
    const ended = await runToEnd(join(folder, "scripts/train/train_nextvlad.sh"), []);
    assert.equal(ended.exitCode, 1);
    assert.match(ended.stderr, /dist\/src\/nextvlad\.cjs is missing: run scripts\/setup\.sh, then npm run build\n$/);
  });
});
