import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { writeShard } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";
import { temporaryFolder } from "../helpers/files.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { learnableVideo, prepareRun, readLog } from "../helpers/runs.js";

const NONE = new Uint8Array(0);

async function succeeds(args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

for (const [name, key, left] of [
  ["rgb only", "MODEL.audio_feature_size", (video: Video) => ({ ...video, audio: NONE })],
  ["audio only", "MODEL.video_feature_size", (video: Video) => ({ ...video, rgb: NONE })],
] as const) {
  test(`${name}: trains, evaluates and infers, whether the shards have the other feature or not`, async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 160 });
    const lone = Array.from({ length: 200 }, (_, number) => left(learnableVideo(number)));
    const shards = ["train0", "train1", "validate0"].map((shard) => join(folder, `${shard}.lone.tfrecord`)) as [string, string, string];
    await writeShard(shards[0], lone.slice(0, 80));
    await writeShard(shards[1], lone.slice(80, 160));
    await writeShard(shards[2], lone.slice(160));
    const list = join(folder, "lone.list");
    writeFileSync(list, `${shards[0]}\n${shards[1]}\n`);

    const train = ["train", "--config", config, "--epoch", "6", "--set", `${key}=0`];
    const [both, alone] = [join(folder, "both"), join(folder, "alone")];
    // Names in the same order: shards are shuffled by their index in the list.
    await succeeds([...train, "--save-dir", both]);
    await succeeds([...train, "--save-dir", alone, "--set", `TRAIN.filelist=${list}`, "--set", `VALID.filelist=${shards[2]}`]);
    const weights = [both, alone].map((saveDir) => readFileSync(join(saveDir, "NEXTVLAD_epoch5", "weights.safetensors")));
    assert.deepEqual(weights[0], weights[1]);
    const losses = readLog(alone).flatMap(({ loss }) => (typeof loss === "number" ? [loss] : []));
    assert.ok((losses.at(-1) as number) < 0.8 * (losses[0] as number), `the loss falls: ${losses.join(" ")}`);

    const snapshot = join(alone, "best");
    const evaluation = join(folder, "eval");
    await succeeds(["eval", "--weights", snapshot, "--filelist", shards[2], "--save-dir", evaluation, "--use-gpu", "False"]);
    const { gap, videos } = JSON.parse(readFileSync(join(evaluation, "NEXTVLAD_eval_result.json"), "utf8")) as Record<string, number>;
    assert.equal(videos, 40);
    // With two of six classes, random predictions have a GAP of about a third.
    assert.ok((gap as number) > 0.6, `GAP ${gap}`);
    const results = join(folder, "infer");
    const printed = await succeeds(["infer", "--weights", snapshot, "--filelist", shards[2], "--save-dir", results, "--use-gpu", "False"]);
    assert.match(printed, /videos: 40/);
  });
}

test("without either feature there is no model", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 2, validateVideos: 2 });
  const set = ["--set", "MODEL.video_feature_size=0", "--set", "MODEL.audio_feature_size=0"];
  const refused = await runNextvlad(["train", "--config", config, "--save-dir", join(folder, "run"), ...set]);
  assert.equal(refused.exitCode, 2);
  assert.match(refused.error, /--set MODEL\.audio_feature_size: invalid value \(expected at least 1 if video_feature_size is 0, found/);
});
