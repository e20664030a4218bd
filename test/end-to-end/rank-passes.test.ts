import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { interruptNextvlad, runNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { freePort } from "../helpers/ports.js";
import { prepareRun } from "../helpers/runs.js";

/** Not a multiple of 2 or 3 batches of 4, and the last batch is not full. */
const VIDEOS = 4 * 100 + 3;

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "rank-passes-"));
  const config = await prepareRun(folder, { validateVideos: VIDEOS });
  const { exitCode, stderr } = await runNextvlad(["train", "--config", config, "--save-dir", at("run"), "--epoch", "1"]);
  assert.equal(exitCode, 0, stderr);
});
after(() => rmSync(folder, { recursive: true, force: true }));

const PASSES = {
  eval: {
    flags: ["--predictions", "--full-ranking"],
    results: ["NEXTVLAD_eval_result.json", "NEXTVLAD_eval_diagnostics.json", "NEXTVLAD_eval_predictions.pkl"],
  },
  infer: { flags: ["--format", "pickle,csv,jsonl"], results: ["pkl", "csv", "jsonl"].map((end) => `NEXTVLAD_infer_result.${end}`) },
} as const;

type Command = keyof typeof PASSES;

function argsOf(command: Command, saveDir: string, ...more: string[]): string[] {
  const reading = ["--weights", at("run", "NEXTVLAD_epoch0"), "--batch-size", "4", "--threads", "1"];
  return [command, ...reading, ...PASSES[command].flags, "--save-dir", at(saveDir), ...more];
}

/** Runs a pass to its end; returns its result files. */
async function resultsOf(command: Command, saveDir: string, ...more: string[]): Promise<readonly Buffer[]> {
  const { exitCode, stdout, stderr } = await spawnNextvlad(argsOf(command, saveDir, ...more));
  assert.equal(exitCode, 0, stderr);
  assert.match(stdout, command === "eval" ? /^\[EVAL\] eval finished/ : new RegExp(`infer finished.*videos: ${VIDEOS}`));
  return PASSES[command].results.map((name) => readFileSync(at(saveDir, name)));
}

for (const command of ["eval", "infer"] as const) {
  describe(`${command} with several processes`, () => {
    let alone: readonly Buffer[];
    before(async () => {
      alone = await resultsOf(command, `${command}-alone`);
    });

    test("writes the bytes of one process", async () => {
      for (const devices of ["2", "3"])
        assert.deepEqual(await resultsOf(command, `${command}-${devices}`, "--devices", devices), alone, `${devices} processes`);
    });

    test("stops at SIGINT, and resumes on another number of processes", async () => {
      const saveDir = `${command}-stopped`;
      const words = command === "eval" ? "iter 20 " : "Processed 20 batches";
      const args = argsOf(command, saveDir, "--devices", "2", "--log-interval", "1");
      const { exitCode, output } = await interruptNextvlad(args, words, (child) => child.kill("SIGINT"));
      assert.equal(exitCode, 130, output);
      assert.match(output, /partial results are in .*\nresume with: /);
      assert.deepEqual(await resultsOf(command, saveDir, "--devices", "3", "--resume"), alone);
    });
  });
}

test("ranks with different settings are an error", async () => {
  const worker = [await freePort(), await freePort()].map((port) => `127.0.0.1:${port}`);
  const ranks = await Promise.all(
    worker.map((_, index) =>
      spawnNextvlad(argsOf("infer", "differs", ...(index === 1 ? ["--precision", "int16"] : [])), {
        env: { TF_CONFIG: JSON.stringify({ cluster: { worker }, task: { type: "worker", index } }) },
      }),
    ),
  );
  for (const { exitCode, error } of ranks) {
    assert.equal(exitCode, 1);
    assert.match(error, /^rank 1 \(127\.0\.0\.1:\d+\) differs from rank 0 in the config/);
  }
});
