import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ratedSegments, SEGMENT_LABELS } from "../../src/data/segments.js";
import { writePickleShard } from "../../src/data/shard-writer.js";
import { openStream } from "../../src/data/stream.js";
import type { ContextFeature } from "../../src/formats/protobuf/sequence-example.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith, goldenData, randomVideo, type StreamChanges, streamOptions } from "../helpers/shards.js";

/** What numpy and Python's protobuf wrote: scripts/golden/segments.py. */
interface Golden {
  readonly videos: readonly { readonly id: string; readonly frames: number; readonly labels: readonly number[] }[];
  readonly segments: readonly Clip[];
}

interface Clip {
  readonly id: string;
  readonly frames: number;
  readonly labels: readonly number[];
  readonly rated: readonly number[];
  /** base64. */
  readonly rgb: string;
  readonly audio: string;
}

const golden = JSON.parse(readFileSync(goldenData("segments.json"), "utf8")) as Golden;
const SHARD = goldenData("segments.tfrecord");
const RATED = { shards: [SHARD], labels: "optional", segments: "rated" } as const;
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

/** Reads the clips of a stream, batch by batch. */
async function readClips(changes: StreamChanges): Promise<Clip[][]> {
  const batches: Clip[][] = [];
  for await (const { ids, frameCounts, labels, rated, rgb, audio } of openStream(streamOptions(changes))) {
    let frame = 0;
    const clips = ids.map((id, i) => {
      const frames = frameCounts[i] as number;
      const part = (bytes: Uint8Array, size: number): string => base64(bytes.subarray(frame * size, (frame + frames) * size));
      const clip = {
        id,
        frames,
        rated: [...(rated?.[i] ?? [])],
        labels: [...(labels[i] as Int32Array)],
        rgb: part(rgb, 6),
        audio: part(audio, 3),
      };
      frame += frames;
      return clip;
    });
    batches.push(clips);
  }
  return batches;
}

describe("rated segments", () => {
  test("are the clips of a shard, with their frames, rated classes and labels, as numpy reads them", async () => {
    const batches = await readClips(RATED);
    assert.deepEqual(batches.flat(), golden.segments);
    assert.ok(golden.segments.some(({ labels }) => labels.length === 0) && golden.segments.some(({ frames }) => frames < 5));
    assert.deepEqual(new Set(batches.slice(0, -1).map(({ length }) => length)), new Set([5]));
  });

  test("are shuffled one by one; a resumed epoch has the batches that follow, and each of several ranks its part", async () => {
    const shuffled = { ...RATED, order: "shuffled", batchSize: 4, dropLast: true, shuffleBuffer: 15 } as const;
    const batches = await readClips(shuffled);
    assert.equal(batches.length, Math.floor(golden.segments.length / 4));
    const ids = batches.flat().map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    const videos = batches.map((clips) => new Set(clips.map(({ id }) => id.split(":")[0])).size);
    assert.ok(videos.filter((count) => count > 1).length > batches.length / 2, "most batches have segments of several videos");
    assert.deepEqual(await readClips({ ...shuffled, skipBatches: 5 }), batches.slice(5));
    const parts = await Promise.all(
      [0, 1].map((rank) => readClips({ ...shuffled, share: { rank, size: 2, divides: "each batch", readsOwn: true } })),
    );
    assert.deepEqual(
      batches,
      batches.map((_, i) => parts.flatMap((part) => part[i] as Clip[])),
    );
  });

  test("of pickles are an error", async (t) => {
    const path = join(temporaryFolder(t), "a.pkl");
    await writePickleShard(path, [randomVideo(1)], 300);
    await failsWith(readClips({ ...RATED, shards: [path] }), "BAD_LABELS", { file: path });
  });
});

describe("all segments", () => {
  test("are consecutive parts of 5 frames; the last of a video may be shorter", async (t) => {
    const all = { shards: [SHARD], labels: "optional", segments: "all" } as const;
    const clips = (await readClips(all)).flat();
    const expected = golden.videos.flatMap(({ id, frames }) =>
      Array.from({ length: Math.ceil(frames / 5) }, (_, i) => ({ id: `${id}:${5 * i}`, frames: Math.min(5, frames - 5 * i) })),
    );
    assert.deepEqual(
      clips.map(({ id, frames }) => ({ id, frames })),
      expected,
    );
    const byId = new Map(clips.map((clip) => [clip.id, clip]));
    for (const { id, rgb, audio } of golden.segments) {
      assert.equal(byId.get(id)?.rgb, rgb);
      assert.equal(byId.get(id)?.audio, audio);
    }
    const cut = (await readClips({ ...all, maxFrames: 12 })).flat();
    assert.ok(cut.every(({ id }) => Number(id.split(":")[1]) < 12) && cut.some(({ frames }) => frames === 2));
    const path = join(temporaryFolder(t), "a.pkl");
    const video = randomVideo(1);
    await writePickleShard(path, [video], 300);
    const ofPickle = (await readClips({ ...all, shards: [path] })).flat();
    assert.equal(Buffer.concat(ofPickle.map(({ rgb }) => Buffer.from(rgb, "base64"))).toString("base64"), base64(video.rgb));
  });
});

describe("invalid ratings are errors", () => {
  const int64 = (...values: number[]): ContextFeature => ({ kind: "int64", values });
  const float = (...values: number[]): ContextFeature => ({ kind: "float", values });
  const valid: Readonly<Record<string, ContextFeature>> = {
    [SEGMENT_LABELS]: int64(7, 2, 2),
    segment_start_times: int64(10, 10, 0),
    segment_end_times: int64(15, 15, 5),
    segment_scores: float(0, 1, 1),
  };
  const SHAPE = { frames: 12, maxFrames: 300, numClasses: 8 };
  const read = (changes: Readonly<Record<string, ContextFeature>>) =>
    ratedSegments({ context: new Map(Object.entries({ ...valid, ...changes })) }, SHAPE, { file: "a", record: 3 });

  test("valid ones are not, also with integer scores and without ends", () => {
    const expected = [
      { start: 0, rated: Int32Array.of(2), labels: Int32Array.of(2) },
      { start: 10, rated: Int32Array.of(2, 7), labels: Int32Array.of(2) },
    ];
    assert.deepEqual(read({}), expected);
    const { segment_end_times: _, ...withoutEnds } = valid;
    const context = new Map(Object.entries({ ...withoutEnds, segment_scores: int64(0, 1, 1) }));
    assert.deepEqual(ratedSegments({ context }, SHAPE, {}), expected);
  });

  test("a start after the frames that max_frames keeps", async () => {
    const context = new Map(Object.entries(valid));
    const cut = { ...SHAPE, frames: 6, maxFrames: 6 };
    const error = await failsWith(
      Promise.resolve().then(() => ratedSegments({ context }, cut, { file: "a" })),
      "BAD_LABELS",
      { file: "a", key: "MODEL.max_frames", expected: "0 to 5", found: 10 },
    );
    assert.match(error.message, /raise MODEL.max_frames/i);
  });

  for (const [what, changes, message] of [
    ["a class of another model", { [SEGMENT_LABELS]: int64(8, 2, 2) }, /not one of the model's classes/],
    ["a start after the last frame", { segment_start_times: int64(12, 10, 0) }, /starts outside of the video/],
    ["another length than 5 seconds", { segment_end_times: int64(15, 16, 5) }, /does not have 5 seconds/],
    ["fewer scores", { segment_scores: float(0, 1) }, /segment_scores and segment_labels have different lengths/],
    ["labels that are text", { [SEGMENT_LABELS]: { kind: "bytes", values: [] } }, /segment_labels has values of another type/],
    ["NaN", { segment_scores: float(0, Number.NaN, 1) }, /NaN/],
  ] as const) {
    test(what, async () => {
      const error = await failsWith(
        Promise.resolve().then(() => read(changes)),
        "BAD_LABELS",
        { file: "a", record: 3 },
      );
      assert.match(error.message, message);
    });
  }
});
