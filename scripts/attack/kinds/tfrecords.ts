import { deflateSync, gzipSync } from "node:zlib";
import type { Attempt } from "../attempt.js";
import { CONFIG, SNAPSHOT } from "../base.js";
import {
  BIDI,
  bytesField,
  deflateBomb,
  ESCAPES,
  frameList,
  gzipBomb,
  HOSTILE_TEXT,
  MODEL_SIZES,
  mapEntry,
  nestedMessages,
  recordHead,
  records,
  repeat,
  video,
} from "../bytes.js";

const { rgb, audio } = MODEL_SIZES;
const GOOD = records(video(), video({ id: "clip2" }));
const RECORD_BYTES = 1n << 30n;

const flip = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy[copy.length + at] = (copy.at(at) as number) ^ 1;
  return copy;
};
/** Builds a SequenceExample whose context consists of the given map entries. */
const withContext = (...entries: readonly Uint8Array[]): Uint8Array =>
  bytesField(1, Buffer.concat(entries.map((entry) => bytesField(1, entry))));
const bytesFeature = (value: string | Uint8Array): Uint8Array => bytesField(1, bytesField(1, Buffer.from(value as string)));

/** Hostile shards, by description. */
const SHARDS: Readonly<Record<string, () => Uint8Array>> = {
  "empty file": () => Buffer.alloc(0),
  "one byte": () => Buffer.alloc(1),
  "length without a checksum": () => recordHead(40n).subarray(0, 8),
  "wrong checksum of the length": () => flip(recordHead(40n), -1),
  "length 2^64-1": () => Buffer.concat([recordHead(-1n), GOOD]),
  "length 2^63-1": () => Buffer.concat([recordHead((1n << 63n) - 1n), GOOD]),
  "length 2^31 after a good record": () => Buffer.concat([GOOD, recordHead(1n << 31n), GOOD]),
  "length 2^30 before 100 bytes": () => Buffer.concat([recordHead(RECORD_BYTES), Buffer.alloc(100)]),
  "empty record": () => records(new Uint8Array(0)),
  "100,000 empty records": () => repeat(records(new Uint8Array(0)), 100_000),
  "truncated record": () => GOOD.subarray(0, 60),
  "truncated checksum": () => GOOD.subarray(0, -2),
  "wrong checksum of the first data": () => flip(GOOD, -GOOD.length / 2 - 20),
  "wrong checksum of the last data": () => flip(GOOD, -1),
  "random bytes": () => repeat(Buffer.from("8e1f02c47bd935a6", "hex"), 500),
  "text with escapes": () => Buffer.from(`${ESCAPES}\n`.repeat(50)),
  "gzip of nothing": () => gzipSync(Buffer.alloc(0)),
  "gzip bomb: a record of 2^30 zeros": () => gzipBomb(recordHead(RECORD_BYTES), 1025),
  "gzip bomb: 100 good records between 10 GiB of zeros": () => repeat(gzipBomb(GOOD, 100), 100),
  "zlib bomb: a record of 2^30 zeros": () => Buffer.concat([Buffer.from([0x78, 0xda]), deflateBomb(recordHead(RECORD_BYTES), 1025)]),
  "truncated gzip": () => gzipSync(GOOD).subarray(0, -9),
  "gzip with a wrong checksum": () => flip(gzipSync(GOOD), -6),
  "gzip in gzip": () => gzipSync(gzipSync(GOOD)),
  "gzip followed by text": () => Buffer.concat([gzipSync(GOOD), Buffer.from("garbage")]),
  "gzip with a name of 1 MB": () => {
    const bytes = gzipSync(GOOD);
    return Buffer.concat([
      bytes.subarray(0, 3),
      Buffer.from([8]),
      bytes.subarray(4, 10),
      Buffer.alloc(1_000_000, "n"),
      Buffer.alloc(1),
      bytes.subarray(10),
    ]);
  },
  "20,000 empty gzip members": () => Buffer.concat([repeat(gzipSync(Buffer.alloc(0)), 20_000), gzipSync(GOOD)]),
  "zlib with a wrong checksum": () => flip(deflateSync(GOOD), -1),
  "messages nested 100,000 deep": () => records(nestedMessages(100_000)),
  "groups nested 100,000 deep": () => records(Buffer.alloc(100_000, 0x0b)),
  "a tag of eleven bytes": () => records(Buffer.alloc(11, 0xff)),
  "a field longer than its record": () => records(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, 1])),
  "200,000 unknown fields": () => records(Buffer.concat([video(), repeat(Buffer.from([0x78, 0x01]), 200_000)])),
  "the id 100,000 times": () => records(Buffer.concat([video(), repeat(withContext(mapEntry("id", bytesFeature("x"))), 100_000)])),
  "map entries without keys": () => records(repeat(withContext(new Uint8Array(0)), 100)),
  "10,000 feature lists": () => records(video({ lists: Array.from({ length: 10_000 }, (_, i) => frameList(`list${i}`, 2, 1)) })),
  "feature lists with escapes in their names": () => records(video({ lists: [frameList(ESCAPES, rgb, 2), frameList(BIDI, audio, 2)] })),
  "context features with escapes in their names": () => records(video({ context: { [ESCAPES]: Buffer.from(ESCAPES), [BIDI]: [1] } })),
  "a context feature __proto__": () =>
    records(
      video({
        context: Object.fromEntries([
          ["__proto__", [1]],
          ["constructor", [2]],
        ]),
      }),
    ),
  "frames of another size, escapes in the id": () =>
    records(video({ id: ESCAPES, lists: [frameList("rgb", 99, 2), frameList("audio", 9, 2)] })),
  "no frames": () => records(video({ id: ESCAPES, lists: [] })),
  "one audio frame fewer": () => records(video({ id: BIDI, lists: [frameList("rgb", rgb, 3), frameList("audio", audio, 2)] })),
  "100,000 frames": () => records(video({ frames: 100_000 })),
  "frames without bytes": () =>
    records(Buffer.concat([video(), bytesField(2, bytesField(1, mapEntry("rgb", bytesField(1, new Uint8Array(0)))))])),
  "label 2^31": () => records(video({ id: ESCAPES, labels: [2 ** 31] })),
  "a negative label": () => records(video({ id: ESCAPES, labels: [-1] })),
  "1,000,000 labels": () => records(video({ labels: Array.from({ length: 1_000_000 }, (_, i) => i) })),
  "labels that are bytes with escapes": () => records(video({ labels: [], context: { labels: Buffer.from(ESCAPES) } })),
  "an id of int64s": () => records(video({ context: { id: [1, 2, 3] } })),
  "an empty id": () => records(video({ id: "" })),
  "an id that is not UTF-8": () => records(video({ id: Buffer.from([0xff, 0xfe, 0x9b, 0x41]), labels: [9999] })),
  "an id with a NUL": () => records(video({ id: "a\0b", labels: [9999] })),
  "1,000 videos with the same hostile id": () => repeat(records(video({ id: ESCAPES })), 1000),
  ...Object.fromEntries(
    Object.entries(HOSTILE_TEXT).map(([name, id]) => [`the id is ${name}, the label wrong`, () => records(video({ id, labels: [9999] }))]),
  ),
};

const READ = ["in.tfrecord", "--config", CONFIG];
const RUN = ["--weights", SNAPSHOT, "--filelist", "in.tfrecord", "--save-dir", "out"];
/** Commands that read a shard without TensorFlow; each runs on every shard. */
const READERS: Readonly<Record<string, readonly string[]>> = {
  verify: ["verify", ...READ, "--require-labels"],
  inspect: ["inspect", "in.tfrecord"],
  convert: ["convert", "--to", "pkl", "--filelist", "in.tfrecord", "--out", "out", "--workers", "2"],
};
/** Commands that compute on a shard; one of them, in turn, runs on each shard. */
const COMPUTERS: Readonly<Record<string, readonly string[]>> = {
  eval: ["eval", ...RUN],
  infer: ["infer", ...RUN, "--format", "pickle,csv,jsonl"],
  "infer, skipping records": ["infer", ...RUN, "--on-corrupt", "skip-record"],
  train: [
    "train",
    "--config",
    CONFIG,
    "--set",
    "TRAIN.filelist=in.tfrecord",
    "--batch-size",
    "1",
    "--save-dir",
    "out",
    "--on-corrupt",
    "skip-record",
  ],
};

export const tfrecordAttempts: readonly Attempt[] = Object.entries(SHARDS).flatMap(([name, make], i) => {
  const computers = Object.entries(COMPUTERS);
  const commands = [...Object.entries(READERS), computers[i % computers.length] as (typeof computers)[number]];
  return commands.map(
    ([command, args]): Attempt => ({
      kind: "tfrecord",
      name: `${name}: ${command}`,
      prepare: (place) => place.file("in.tfrecord", make()),
      args,
      ...(name.includes("bomb") ? { isSlow: true } : {}),
    }),
  );
});
