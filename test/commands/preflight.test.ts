import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { pino } from "pino";
import { type Preflight, preflightEnsemble, preflightReading, preflightTraining } from "../../src/commands/preflight.js";
import { buildConfig } from "../../src/config/load.js";
import { corruptData } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import { SMALL_SIZES, writeShards } from "../helpers/shards.js";

const [rgb, audio] = SMALL_SIZES;
const MODEL = { num_classes: 10, video_feature_size: rgb, audio_feature_size: audio, groups: 1 };

function openLog() {
  const out = new PassThrough();
  return { log: pino({}, out), text: (): string => String(out.read() ?? "") };
}

test("ensemble reads repeated shards once; infer reads each as listed, and warns that ensemble rejects the results", async (t) => {
  const folder = temporaryFolder(t);
  const { shards } = await writeShards(folder, [2, 2]);
  const [a, b] = shards as [string, string];
  const list = join(folder, "all.list");
  writeFileSync(list, `${a}\n${b}\n${a}\n`);
  const { log, text } = openLog();
  const ensemble = await preflightEnsemble(buildConfig({ MODEL }, "test"), list, join(folder, "out"));
  const pathsOf = ({ requireReady }: Preflight) => requireReady(log).map((found) => found.map(({ path }) => path));
  assert.deepEqual(pathsOf(ensemble), [[a, b]]);
  assert.match(text(), /all\.list lists a shard more than once: \S+ 2 times; each is read once"/);
  const config = buildConfig({ MODEL, INFER: { filelist: list } }, "test");
  const infer = await preflightReading(config, "INFER", { saveDir: join(folder, "out") });
  assert.deepEqual(pathsOf(infer), [[a, b, a]]);
  assert.match(text(), /2 times; each repetition is read again, so the results repeat its videos, and ensemble rejects/);
});

test("the remedy for corrupt records names the option of the command", async (t) => {
  const folder = temporaryFolder(t);
  const { shards } = await writeShards(folder, [2]);
  const [shard] = shards as [string];
  corruptData(shard, 0);
  const { log } = openLog();
  const ensemble = await preflightEnsemble(buildConfig({ MODEL }, "test"), shard, join(folder, "out"));
  const expected = { code: "CORRUPT_RECORD", message: /; or skip corrupt records with --set TEST\.on_corrupt=skip-record\.$/ };
  assert.throws(() => ensemble.requireReady(log), expected);
  const config = buildConfig({ MODEL, INFER: { filelist: shard } }, "test");
  const infer = await preflightReading(config, "INFER", { saveDir: join(folder, "out") });
  assert.throws(() => infer.requireReady(log), { message: /; or skip corrupt records with --on-corrupt skip-record\.$/ });
});

test("train rejects one pipe as the list of both splits, before it reads the pipe", async (t) => {
  const flags = { saveDir: join(temporaryFolder(t), "out"), logInterval: 10, validInterval: { epochs: 1 } };
  for (const [list, other] of [
    ["-", "/dev/stdin"],
    ["/dev/fd/63", "/dev/fd/63"],
  ]) {
    const config = buildConfig({ MODEL, TRAIN: { filelist: list }, VALID: { filelist: other } }, "test");
    const expected = { code: "BAD_CONFIG", message: /VALID\.filelist.* are the same pipe.*--valid-interval 0/ };
    await assert.rejects(preflightTraining(config, flags, { resume: null, pretrain: null }), expected);
  }
});
