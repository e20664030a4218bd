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

for (const [name, key, removeOther] of [
  ["rgb only", "MODEL.audio_feature_size", (video: Video) => ({ ...video, audio: NONE })],
  ["audio only", "MODEL.video_feature_size", (video: Video) => ({ ...video, rgb: NONE })],
] as const) {
  test(`${name}: trains, evaluates and infers, with or without the other modality in the shards`, async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 160 });
    const single = Array.from({ length: 200 }, (_, number) => removeOther(learnableVideo(number)));
    const shards = ["train0", "train1", "validate0"].map((shard) => join(folder, `${shard}.single.tfrecord`)) as [string, string, string];
    await writeShard(shards[0], single.slice(0, 80));
    await writeShard(shards[1], single.slice(80, 160));
    await writeShard(shards[2], single.slice(160));
    const list = join(folder, "single.list");
    writeFileSync(list, `${shards[0]}\n${shards[1]}\n`);

    const train = ["train", "--config", config, "--epoch", "6", "--set", `${key}=0`];
    const [both, one] = [join(folder, "both"), join(folder, "one")];
    // Names in the same order: shards are shuffled by their index in the list.
    await succeeds([...train, "--save-dir", both]);
    await succeeds([...train, "--save-dir", one, "--set", `TRAIN.filelist=${list}`, "--set", `VALID.filelist=${shards[2]}`]);
    const weights = [both, one].map((saveDir) => readFileSync(join(saveDir, "NEXTVLAD_epoch5", "weights.safetensors")));
    assert.deepEqual(weights[0], weights[1]);
    const losses = readLog(one).flatMap(({ loss }) => (typeof loss === "number" ? [loss] : []));
    assert.ok((losses.at(-1) as number) < 0.8 * (losses[0] as number), `the loss falls: ${losses.join(" ")}`);

    const snapshot = join(one, "best");
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

test("a model without both modalities is an error", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 2, validateVideos: 2 });
  const set = ["--set", "MODEL.video_feature_size=0", "--set", "MODEL.audio_feature_size=0"];
  const refused = await runNextvlad(["train", "--config", config, "--save-dir", join(folder, "run"), ...set]);
  assert.equal(refused.exitCode, 2);
  assert.match(refused.error, /--set MODEL\.audio_feature_size: invalid value \(expected at least 1 if video_feature_size is 0, found/);
});
