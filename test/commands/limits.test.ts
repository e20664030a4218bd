import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, runNextvlad, runProgram } from "../helpers/nextvlad.js";
import { goldenData } from "../helpers/shards.js";

/** Runs nextvlad with a limit set by the shell (ulimit). */
const limited = (limit: string, args: readonly string[]) =>
  runProgram("bash", ["-c", `ulimit ${limit} && exec "$0" "$@"`, process.execPath, compiled("nextvlad.cjs"), ...args]);

const SHARD = goldenData("train0000.tfrecord");
const VERIFY = ["verify", SHARD, "--set", "MODEL.num_classes=50", "--readers", "1"];

test("with few file descriptors the error names ulimit -n", async () => {
  for (const files of [24, 96]) {
    const { exitCode, stderr, stdout } = await limited(`-n ${files}`, VERIFY);
    const message = `error[NOT_READY]: the limit of open files is too low (expected at least 128, found ${files})\n  help: raise it: ulimit -n 1024\n`;
    assert.deepEqual([exitCode, stdout, stderr], [1, "", message]);
  }
  assert.equal((await limited("-n 128", VERIFY)).exitCode, 0);
});

test("an old Node.js is an error of every command, except for those that help to find out", async (t) => {
  const old = join(temporaryFolder(t), "old.cjs");
  writeFileSync(old, 'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "18.20.8" } });');
  const run = (...args: readonly string[]) => runProgram(process.execPath, ["--require", old, compiled("nextvlad.cjs"), ...args]);
  const message =
    "error[NOT_READY]: this Node.js is too old (expected 20, 22 or 24, found 18.20.8)\n  help: install Node.js 22: nvm install 22\n";
  for (const args of [VERIFY, ["train", "--help"], []]) {
    const { exitCode, stderr, stdout } = await run(...args);
    assert.deepEqual([exitCode, stdout, stderr], [1, "", message]);
  }
  assert.match((await run("--version")).stdout, /Node\.js 18\.20\.8\)$/m);
  const { exitCode, stdout } = await run("doctor");
  assert.equal(exitCode, 1);
  assert.match(stdout, /^PROBLEM +Node\.js +18\.20\.8 \(expected 20, 22 or 24\)$/m);
});

test("with a small address space the error names ulimit -v", async () => {
  const small = await limited("-v 1200000", VERIFY);
  assert.match(
    small.stderr,
    /^error\[NOT_READY\]: the limit of the address space is too low \(expected at least \d+ kB, found 1200000 kB\)\n {2}help: raise it: ulimit -v unlimited\n$/,
  );
  assert.equal(small.exitCode, 1);
  const threads = await limited("-v 3000000", [...VERIFY.slice(0, -1), "64", SHARD.replace("0000", "000?")]);
  assert.equal(threads.signal, null, threads.stderr);
});

test("a record longer than --max-record-bytes is an error of every command that reads shards", async (t) => {
  const folder = temporaryFolder(t);
  const list = join(folder, "a.list");
  writeFileSync(list, SHARD);
  const option = ["--max-record-bytes", "1K"];
  for (const args of [
    ["verify", list, ...option],
    ["inspect", SHARD, ...option],
    ["convert", "--to", "pkl", "--out", join(folder, "out"), "--filelist", list, ...option],
  ]) {
    const { exitCode, stdout, stderr } = await runNextvlad(args);
    assert.equal(exitCode, 1, args[0]);
    assert.match(stdout + stderr, /the record's length exceeds the maximum \(expected at most 1024 bytes, found \d+ bytes\)/, args[0]);
  }
  const { exitCode, error } = await runNextvlad(["inspect", SHARD, "--max-record-bytes", "2G"]);
  assert.equal(exitCode, 2);
  assert.match(
    error,
    /--max-record-bytes: invalid value \(expected a size from 1 to 1073741824 bytes, such as 268435456 or 256M, found "2G"\)/,
  );
});
