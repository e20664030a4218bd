import assert from "node:assert/strict";
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { requireFreeSpace } from "../../src/base/output-checks.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

test("too little free space is an error before a large write", async (t) => {
  const folder = temporaryFolder(t);
  const { bavail, bsize } = statfsSync(folder);
  await requireFreeSpace(folder, (bavail * bsize) / 2);
  const error = await failsWith(requireFreeSpace(folder, 2 * bavail * bsize), "FILE_UNWRITABLE", { file: folder });
  assert.match(error.message, /not enough free space \(expected \d+\.\d MB, found \d+\.\d MB\)\. Free disk space there/);
  await requireFreeSpace(join(folder, "nowhere"), 1e18);
});
