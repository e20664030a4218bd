import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { temporaryFolder } from "../helpers/files.js";
import { repository, runProgram } from "../helpers/nextvlad.js";

const script = (path: string): string => join(repository, "scripts", path);

describe("PaddleVideo's scripts, from any directory", () => {
  test("training uses the published recipe, and passes arguments on", async (context) => {
    const cwd = temporaryFolder(context);
    const ended = await runProgram(script("train/train_nextvlad.sh"), ["--use_gpu", "Maybe"], { cwd });
    assert.deepEqual([ended.exitCode, ended.stdout], [2, ""]);
    assert.match(ended.stderr, /^error\[BAD_CONFIG\]: invalid value .*found "Maybe"\)\n {2}--> --use-gpu\n$/);
  });

  test("an argument overrides the script's own; its path is relative to the caller's directory", async (context) => {
    const cwd = temporaryFolder(context);
    const ended = await runProgram(script("train/train_nextvlad.sh"), ["--config", "mine.yaml"], { cwd });
    assert.deepEqual([ended.exitCode, ended.stderr], [1, "error[FILE_MISSING]: file not found\n  --> mine.yaml\n  help: check the path\n"]);
  });

  for (const path of ["test/test_nextvlad.sh", "infer/infer_nextvlad.sh"]) {
    test(`${path} uses the best snapshot`, async (context) => {
      const ended = await runProgram(script(path), [], { cwd: temporaryFolder(context) });
      assert.equal(ended.exitCode, 1);
      assert.match(ended.error, /^data\/checkpoints\/best: /);
    });
  }

  test("a missing build is an error", async (context) => {
    const folder = temporaryFolder(context);
    cpSync(script("train"), join(folder, "scripts/train"), { recursive: true });
    const ended = await runProgram(join(folder, "scripts/train/train_nextvlad.sh"), []);
    assert.equal(ended.exitCode, 1);
    assert.match(
      ended.stderr,
      /^error\[NOT_SET_UP\]: \S+dist\/src\/nextvlad\.cjs is missing\n {2}help: run scripts\/setup\.sh, then npm run build\n$/,
    );
  });
});
