import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { DamageReport } from "../../src/evaluation/damage-report.js";
import { ensemble } from "../../src/inference/ensemble.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";

const folder = mkdtempSync(join(tmpdir(), "ensemble-"));
after(() => rmSync(folder, { recursive: true, force: true }));

async function run(content: string, signal: AbortSignal) {
  const file = join(folder, "a.csv");
  writeFileSync(file, `VideoId,LabelConfidencePairs\n${content}`);
  const target = { path: join(folder, "out"), formats: ["pickle", "csv"], names: null } as const;
  const telemetry = await createTelemetry({ logFile: null });
  const damage = new DamageReport(folder, "ensemble", telemetry.log);
  return ensemble({ files: [file, file], weights: [1, 1], topk: 20, target, truth: null, signal, telemetry, damage });
}

test("a signal ends it within some hundred videos, and leaves nothing", async () => {
  const controller = new AbortController();
  const lines = Array.from({ length: 5000 }, (_, i) => `v${i},1 0.5\n`).join("");
  setImmediate(() => controller.abort());
  const { stopped, videos, resultFiles, metrics } = await run(lines, controller.signal);
  assert.deepEqual([stopped, resultFiles, metrics], [true, [], null]);
  assert.ok(videos < 1000, `stopped after ${videos} videos`);
  assert.deepEqual(readdirSync(folder), ["a.csv"]);
});

test("results without a video are an error", async () => {
  await assert.rejects(run("", new AbortController().signal), { code: "TOO_FEW_VIDEOS", message: /a\.csv: the results hold no videos/ });
  assert.deepEqual(readdirSync(folder), ["a.csv"]);
});
