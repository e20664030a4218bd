import assert from "node:assert/strict";
import { test } from "node:test";
import { buildConfig } from "../../src/config/load.js";
import { openReading, watchBatches } from "../../src/passes/reading.js";
import { SkippedRecordReport } from "../../src/passes/skipped-records.js";
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
  const read = {
    model: config.MODEL,
    labels: "optional",
    shards: shards.map(examined),
    batchSize: 2,
    readers: 1,
    onCorrupt: "error",
  } as const;
  const telemetry = await createTelemetry({ logFile: null });
  const skipped = new SkippedRecordReport(folder, "eval", telemetry.log);
  const pass = { title: "eval", logInterval: { steps: 0 }, signal: new AbortController().signal, telemetry, skipped };
  const batches = watchBatches(openReading(read), pass, String);
  const message = /record 3, .*; or skip corrupt records with --on-corrupt skip-record\.$/;
  await assert.rejects(collect(batches), { code: "CORRUPT_RECORD", message });
});
