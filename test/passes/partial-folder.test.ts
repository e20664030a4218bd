import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { PartialFolder } from "../../src/passes/partial-folder.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { temporaryFolder } from "../helpers/files.js";

const { log } = await createTelemetry({ logFile: null });

test("keeps a folder with an unreadable state, removes one without a state", async (t) => {
  const path = join(temporaryFolder(t), "out.partial");
  mkdirSync(join(path, "state.json"), { recursive: true });
  writeFileSync(join(path, "out.pkl"), "hours of results");
  const unreadable = await PartialFolder.open(path, log);
  await assert.rejects(unreadable.readState(), { code: "FILE_UNREADABLE", message: /state\.json: cannot read: it is a directory/ });
  assert.equal(await unreadable.close(), true);
  assert.deepEqual(readdirSync(path).sort(), ["out.pkl", "state.json"]);
  // A folder whose state was never read is kept too.
  assert.equal(await (await PartialFolder.open(path, log)).close(), true);
  assert.deepEqual(readdirSync(path).sort(), ["out.pkl", "state.json"]);
  rmSync(join(path, "state.json"), { recursive: true });
  const empty = await PartialFolder.open(path, log);
  assert.equal(await empty.readState(), null);
  assert.equal(await empty.close(), false);
  assert.equal(existsSync(path), false);
});

test("a folder with other files is an error, and is unchanged", async (t) => {
  const path = join(temporaryFolder(t), "out.partial");
  mkdirSync(path);
  for (const name of ["thesis.docx", "tally.bin", "a.csv"]) writeFileSync(join(path, name), "mine");
  await assert.rejects(PartialFolder.open(path, log), {
    code: "FILE_UNWRITABLE",
    message: /out\.partial: the directory of partial results contains another file, thesis\.docx\. Move it\.$/,
  });
  assert.deepEqual(readdirSync(path).sort(), ["a.csv", "tally.bin", "thesis.docx"]);
  const link = join(temporaryFolder(t), "out.partial");
  symlinkSync(path, link);
  rmSync(join(path, "thesis.docx"));
  await assert.rejects(PartialFolder.open(link, log), { code: "FILE_UNWRITABLE", message: /is a symbolic link.*Remove the link\.$/ });
  assert.deepEqual(readdirSync(path).sort(), ["a.csv", "tally.bin"]);
});
