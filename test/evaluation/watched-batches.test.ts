import assert from "node:assert/strict";
import { test } from "node:test";
import { buildConfig } from "../../src/config/load.js";
import { DamageReport } from "../../src/evaluation/damage-report.js";
import { openReading } from "../../src/evaluation/evaluate.js";
import { watchBatches } from "../../src/evaluation/watched-batches.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { corruptData } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import { collect, examined, SMALL_SIZES, writeShards } from "../helpers/shards.js";

test("a corrupt record is an error that says how to skip it", async (t) => {
  const folder = temporaryFolder(t);
  const { shards } = await writeShards(folder, [4]);
  corruptData(shards[0] as string, 3);
  const [rgb, audio] = SMALL_SIZES;
  const config = buildConfig({ MODEL: { video_feature_size: rgb, audio_feature_size: audio, groups: 1 } }, "test");
  const telemetry = await createTelemetry({ logFile: null });
  const damage = new DamageReport(folder, "eval", telemetry.log);
  const watch = { title: "eval", logInterval: { steps: 0 }, signal: new AbortController().signal, telemetry, damage };
  const batches = watchBatches(openReading(config, shards.map(examined), 2, 1, "optional"), watch, String);
  const message = /record 3, .*; or skip corrupt records with --on-corrupt skip-record\.$/;
  await assert.rejects(collect(batches), { code: "CORRUPT_RECORD", message });
});
