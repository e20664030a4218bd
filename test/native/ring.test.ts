import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/files.js";
import { repository } from "../helpers/nextvlad.js";

test("the staging ring delivers every byte, waits only for copies in its way, and wraps around (test/native/ring.cc)", (context) => {
  const program = join(temporaryFolder(context), "ring");
  const source = join(repository, "test/native/ring.cc");
  const built = spawnSync("g++", ["-std=c++17", "-O1", "-pthread", "-o", program, source], { encoding: "utf8" });
  assert.equal(built.status, 0, built.stderr);
  const { status, stdout } = spawnSync(program, { encoding: "utf8" });
  assert.deepEqual([stdout, status], ["ok\n", 0]);
});
