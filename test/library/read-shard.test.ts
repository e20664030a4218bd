import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { readShard, type Video } from "../../src/index.js";
import { temporaryFolder } from "../helpers/files.js";
import { goldenData, goldenVideos } from "../helpers/shards.js";

async function readAll(...args: Parameters<typeof readShard>): Promise<Video[]> {
  const videos: Video[] = [];
  for await (const video of readShard(...args)) videos.push(video);
  return videos;
}

for (const name of ["train0000.tfrecord", "train0000.tfrecord.gz"]) {
  test(`${name} has the videos that numpy reads`, async () => {
    assert.deepEqual(await readAll(goldenData(name)), goldenVideos());
  });
}

test("features may have other names", async (t) => {
  const path = join(temporaryFolder(t), "audioset.tfrecord");
  const data = Uint8Array.from({ length: 6 }, (_, i) => i);
  const context = { video_id: Buffer.from("a"), labels: [5, 2] };
  writeFileSync(path, encodeTfRecord(encodeSequenceExample({ context, frameLists: [{ name: "audio_embedding", frameBytes: 3, data }] })));
  assert.deepEqual(await readAll(path, { featureNames: ["rgb", "audio_embedding"] }), [
    { id: "a", frames: 2, rgb: new Uint8Array(0), audio: data, labels: Int32Array.of(2, 5) },
  ]);
  await assert.rejects(readAll(path), {
    code: "BAD_VIDEO",
    message: /no feature list named rgb or audio \(found "audio_embedding"\)\. Name those to read, as in readShard\(/,
  });
});

test("a missing file and a corrupt record are errors", async (t) => {
  await assert.rejects(readAll("missing.tfrecord"), { code: "FILE_MISSING" });
  const path = join(temporaryFolder(t), "corrupt.tfrecord");
  const record = encodeTfRecord(Buffer.from("text"));
  record[13] = (record[13] as number) ^ 1;
  writeFileSync(path, record);
  await assert.rejects(readAll(path), { code: "CORRUPT_RECORD" });
});
