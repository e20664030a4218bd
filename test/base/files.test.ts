import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { removeUnfinished } from "../../src/base/files.js";
import { temporaryFolder } from "../helpers/shards.js";

test("only what dead processes left unfinished of the files named is removed", async (t) => {
  const folder = temporaryFolder(t);
  const dead = spawnSync("true").pid;
  const stays = [`.a.unfinished-${process.pid}`, `.b.unfinished-${dead}`, "a", `a.unfinished-${dead}`, ".a.unfinished-"];
  for (const name of [...stays, `.a.unfinished-${dead}`]) writeFileSync(join(folder, name), "");
  await removeUnfinished(folder, new Set(["a"]));
  assert.deepEqual(readdirSync(folder).sort(), stays.sort());
});
