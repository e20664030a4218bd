import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { temporaryFolder } from "./helpers/files.js";
import { repository, runNextvlad, runProgram } from "./helpers/nextvlad.js";
import { encodeNpy } from "./helpers/npy.js";

const script = join(repository, "scripts/reproduce-youtube8m.sh");

/** A small model, in two epochs of 4 steps. Its classes and feature sizes are YouTube-8M's. */
const SMALL = [
  ...["--use-gpu", "False", "--log-interval", "1"],
  ...["cluster_size=4", "hidden_size=32", "expansion=1", "max_frames=12"].flatMap((setting) => ["--set", `MODEL.${setting}`]),
  ...["epoch=2", "batch_size=16", "learning_rate=0.05"].flatMap((setting) => ["--set", `TRAIN.${setting}`]),
];

describe("scripts/reproduce-youtube8m.sh", () => {
  let folder: string;
  let data: string;
  let out: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "nextvlad-reproduce-"));
    [data, out] = [join(folder, "yt8m"), join(folder, "out")];
    const digits = ["digits", "--out", data, "--train-videos", "64", "--validate-videos", "20"];
    const { exitCode, stderr } = await runNextvlad(digits);
    assert.equal(exitCode, 0, stderr);
    const eigenvalues = Float32Array.from({ length: 1024 }, (_, i) => 2000 - i);
    writeFileSync(join(data, "eigenvals.npy"), encodeNpy(eigenvalues, [1024, 1]));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const reproduce = () => runProgram(script, [data, out, ...SMALL], { cwd: folder });

  test("verifies, trains, evaluates and compares; Ctrl-C stops it, and it continues when it is run again", async () => {
    // A process group of its own, to which a terminal sends SIGINT.
    const child = spawn(script, [data, out, ...SMALL], { cwd: folder, detached: true });
    let output = "";
    child.stderr.on("data", (chunk: Buffer) => {
      const before = output;
      output += chunk.toString();
      const isTraining = (text: string): boolean => /\[TRAIN\] Epoch 1/.test(text);
      if (isTraining(output) && !isTraining(before)) process.kill(-(child.pid as number), "SIGINT");
    });
    const [exitCode] = (await once(child, "close")) as [number | null];
    assert.equal(exitCode, 130, output);
    assert.match(output, /checking every record of 2 shards/);
    assert.ok(!existsSync(join(out, "summary.txt")));

    const second = await reproduce();
    assert.equal(second.exitCode, 0, second.stderr);
    assert.match(second.stderr, /have not changed since they were checked/);
    assert.match(second.stderr, /resum/);
    const result = JSON.parse(readFileSync(join(out, "evaluate_results/NEXTVLAD_eval_result.json"), "utf8"));
    assert.deepEqual([result.videos, result.aps.length], [20, 3862]);
    assert.ok(result.perr > 0 && result.gap > 0, "something was learned");
    const rows = second.stdout.split("\n").map((line) => line.split(/ {2,}/));
    assert.deepEqual(rows[0], ["", "this run", "published", "difference"]);
    for (const [i, [name, value, published]] of [
      ["Hit@1", result.hit_at_one, 0.896],
      ["PERR", result.perr, 0.8132],
      ["GAP", result.gap, 0.8709],
    ].entries()) {
      const [found, ...others] = (rows[i + 1] as string[]).slice(1);
      assert.deepEqual([rows[i + 1]?.[0], found, others[0]], [name, value.toFixed(4), published.toFixed(4)]);
      // Both are rounded to four digits.
      assert.ok(Math.abs(Number(others[1]) - (value - published)) < 1e-4, others[1]);
    }
    assert.match(second.stdout, /\nweights {5}epochs: [12], steps: [48]\nflags {7}--use-gpu False /);
    assert.equal(readFileSync(join(out, "summary.txt"), "utf8"), second.stdout);
    const report = readFileSync(join(out, "report.html"), "utf8");
    // The run, and its evaluation.
    assert.ok(report.includes(result.gap.toFixed(4)) && /<h2[^>]*>Training/.test(report) && /<h2[^>]*>Evaluation/.test(report));

    const evaluated = statSync(join(out, "evaluate_results/NEXTVLAD_eval_result.json")).mtimeMs;
    const third = await reproduce();
    assert.deepEqual([third.exitCode, third.stdout], [0, second.stdout], third.stderr);
    assert.match(third.stderr, /best has been evaluated already/);
    assert.equal(statSync(join(out, "evaluate_results/NEXTVLAD_eval_result.json")).mtimeMs, evaluated);
  });

  test("a corrupt shard, missing eigenvalues and missing arguments are errors before training", async (t) => {
    const other = join(temporaryFolder(t), "yt8m");
    cpSync(data, other, { recursive: true });
    const shard = readFileSync(join(other, "train0000.tfrecord"));
    shard[200_000] = (shard[200_000] as number) ^ 1;
    writeFileSync(join(other, "train0000.tfrecord"), shard);
    const corrupt = await runProgram(script, [other, join(other, "out")]);
    assert.equal(corrupt.exitCode, 1);
    assert.match(corrupt.stderr, /train0000\.tfrecord/);
    assert.ok(!existsSync(join(other, "out/checkpoints")) && !existsSync(join(other, "out/verified.txt")));

    rmSync(join(other, "eigenvals.npy"));
    const missing = await runProgram(script, [other, join(other, "out")]);
    assert.deepEqual([missing.exitCode, missing.stdout], [1, ""]);
    assert.match(missing.stderr, /^error\[FILE_MISSING\]: \S+eigenvals\.npy is missing\n {2}help: curl /);
    assert.equal((await runProgram(script, [other])).exitCode, 2);
  });
});
