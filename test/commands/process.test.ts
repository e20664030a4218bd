import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, runProgram } from "../helpers/nextvlad.js";

/** Trains for an epoch on the small shards of test/golden/compat, with a shell's redirection of its output. */
async function trainWith(redirection: string, context: TestContext) {
  const folder = temporaryFolder(context);
  cpSync(resolve("test/golden/compat/059705b"), folder, { recursive: true });
  const command = `"$0" "$1" train --config config.yaml --set TRAIN.epoch=1 --save-dir out ${redirection}`;
  const ended = await runProgram("bash", ["-o", "pipefail", "-c", command, process.execPath, compiled("nextvlad.cjs")], { cwd: folder });
  return { ...ended, snapshots: readdirSync(join(folder, "out")), log: readFileSync(join(folder, "out", "train.log.jsonl"), "utf8") };
}

test("a full disk behind stderr does not end training: it saves, logs the reason to its file, and exits with 1", async (context) => {
  if (!existsSync("/dev/full")) return context.skip("/dev/full is missing");
  const { exitCode, stdout, snapshots, log } = await trainWith("2>/dev/full", context);
  assert.equal(exitCode, 1);
  assert.match(stdout, /^\[TRAIN\] train finished\. \tepochs: 1/);
  assert.ok(snapshots.includes("NEXTVLAD_epoch0") && snapshots.includes("best"));
  assert.equal(log.match(/"lines may be missing on the terminal: standard error: cannot write: no space left on the device\./g)?.length, 1);
  assert.match(log, /"best so far: out\/best"/);
});

test("a full disk behind stdout does not end training: the reason goes to stderr, and the exit code is 1", async (context) => {
  if (!existsSync("/dev/full")) return context.skip("/dev/full is missing");
  const { exitCode, stderr, snapshots } = await trainWith(">/dev/full", context);
  assert.equal(exitCode, 1);
  assert.ok(snapshots.includes("NEXTVLAD_epoch0"));
  assert.match(
    stderr,
    /\nerror\[FILE_UNWRITABLE\]: cannot write: no space left on the device\n {2}--> standard output\n {2}help: free disk space[^\n]*\n$/,
  );
});

test("readers of stdout and stderr that exit do not end training and are not an error", async (context) => {
  const { exitCode, snapshots, log } = await trainWith("2>&1 | true", context);
  assert.equal(exitCode, 0);
  assert.ok(snapshots.includes("NEXTVLAD_epoch0"));
  assert.match(log, /"lines may be missing on the terminal: standard error: cannot write: the reader has exited\./);
});
