import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { compiled, runNextvlad, runProgram, spawnNextvlad } from "../helpers/nextvlad.js";
import { prepareRun, readLog } from "../helpers/runs.js";

let folder: string;
let config: string;
const at = (...names: string[]): string => join(folder, ...names);

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "trial-"));
  config = await prepareRun(folder);
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

test("--limit-videos: train, eval and infer read only so many videos; an interrupted run is the same as a straight one", async () => {
  const train = ["train", "--config", config, "--limit-videos", "36", "--log-interval", "1"];
  assert.match(await run(...train, "--save-dir", at("run")), /epochs: 2,\s+steps: 4/);
  const validated = readLog(at("run")).flatMap(({ msg, videos }) => (String(msg).startsWith("[VALID]") ? [videos] : []));
  assert.deepEqual(validated, [36, 36]);
  await run(...train, "--save-dir", at("parts"), "--set", "TRAIN.max_iter=3");
  const unlimited = await runNextvlad(["train", "--config", config, "--save-dir", at("parts"), "--resume"]);
  assert.equal(unlimited.exitCode, 2);
  assert.match(unlimited.error, /--limit-videos: a resumed run cannot change this setting \(expected 36, found none\)/);
  await run(...train, "--save-dir", at("parts"), "--resume");
  for (const name of ["weights", "optimizer"]) {
    const [ours, theirs] = ["parts", "run"].map((saveDir) => readFileSync(at(saveDir, "NEXTVLAD_epoch1", `${name}.safetensors`)));
    assert.ok(ours?.equals(theirs as Buffer), name);
  }
  const read = ["--weights", at("run/best"), "--limit-videos", "20"];
  await run("eval", ...read, "--save-dir", at("eval"));
  assert.equal(JSON.parse(readFileSync(at("eval/NEXTVLAD_eval_result.json"), "utf8")).videos, 20);
  assert.match(await run("infer", ...read, "--save-dir", at("infer")), /infer finished.*videos: 20\n/);
  const { exitCode, error } = await runNextvlad([...train.slice(0, 4), "15", "--save-dir", at("small")]);
  assert.equal(exitCode, 2);
  assert.match(error, /--limit-videos: training drops incomplete batches \(expected at least one batch, 16 videos, found 15\)/);
});

test("train --smoke tries the config and the data, prints the time of each part, and leaves nothing behind", async () => {
  const temporary = at("temporary");
  mkdirSync(temporary);
  const options = { cwd: folder, env: { ...process.env, TMPDIR: temporary } };
  const smoke = ["train", "--config", config, "--smoke", "--epoch", "9", "--save-dir", at("never")];
  const { exitCode, stdout, stderr } = await spawnNextvlad(smoke, options);
  assert.equal(exitCode, 0, stderr);
  assert.match(
    stdout,
    /^\[SMOKE\] train works: [\d.]+ s\n\[SMOKE\] eval works: [\d.]+ s\n\[SMOKE\] infer works: [\d.]+ s\n\[SMOKE\] the config, .* work: at most 32 videos each/,
  );
  const asJson = await spawnNextvlad([...smoke, "--json", "--verbose"], options);
  assert.deepEqual(Object.keys(JSON.parse(asJson.stdout).seconds), ["train", "eval", "infer"], asJson.stderr);
  // As in: nextvlad train --smoke --config <(cat config.yaml)
  const fromPipe = ["-c", 'exec "$@" --config <(cat "$0")', config, process.execPath, compiled("nextvlad.cjs"), "train", "--smoke"];
  const piped = await runProgram("bash", [...fromPipe, "--save-dir", at("never"), "--set", "TRAIN.max_iter=1"], options);
  assert.equal(piped.exitCode, 0, piped.stderr);
  writeFileSync(at("validate1.tfrecord"), "no shard");
  const failed = await spawnNextvlad(smoke, options);
  assert.equal(failed.exitCode, 1);
  assert.match(failed.stderr, /validate1\.tfrecord/);
  assert.match(failed.stderr, /\[SMOKE\] train ended after [\d.]+ s with exit code 1\n$/);
  assert.deepEqual([readdirSync(temporary), readdirSync(folder).includes("never")], [[], false]);
});
