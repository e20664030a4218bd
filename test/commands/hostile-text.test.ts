import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { encodeVideo, writeShard } from "../../src/data/shard-writer.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { encodeSafetensors } from "../../src/formats/tensors/safetensors.js";
import type { VerifyReport } from "../../src/inspection/verify-report.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { corruptData } from "../helpers/corrupt.js";
import { type CommandResult, runNextvlad } from "../helpers/nextvlad.js";
import { CLASSES, learnableVideo, prepareRun } from "../helpers/runs.js";
import { Capture } from "../helpers/terminal.js";

/** Clears the screen, sets the title, forges a line and reorders text; also valid as a path. */
const HOSTILE = "\u001b[2J\u001b]0;title\u0007\r\nerror[FORGED]: forged\u202e\u2028\u009b\u007f\u200b\ufeff";
/** The same as an ID, with a byte that is not part of valid UTF-8. */
const HOSTILE_ID = `${HOSTILE}\udcff`;
const LONG = "x".repeat(1_000_000);
/** Inclusive ranges of UTF-16 code units that output must not contain. Besides visible text, it contains line breaks and tabs. */
const RAW_RANGES = [
  [0x00, 0x08],
  [0x0b, 0x1f],
  [0x7f, 0x9f],
  [0x61c, 0x61c],
  [0x200b, 0x200f],
  [0x2028, 0x202e],
  [0x2060, 0x206f],
  [0xfeff, 0xfeff],
] as const;
const FORGED = /^error\[FORGED\]/m;
/** Capacity of a pipe in bytes. */
const PIPE_BYTES = 65_536;

function assertClean(text: string, what: string): void {
  const isRaw = (code: number): boolean => RAW_RANGES.some(([from, to]) => code >= from && code <= to);
  const raw = Array.from(text, (character) => character.charCodeAt(0)).find(isRaw);
  assert.equal(raw, undefined, `${what} has a raw U+${raw?.toString(16)}: ${JSON.stringify(text.slice(0, 2000))}`);
  assert.doesNotMatch(text, /\p{Surrogate}/u, what);
  assert.doesNotMatch(text, FORGED, what);
}

/** Runs a command, and checks everything that it prints and logs. */
async function run(args: readonly string[], exitCode: number): Promise<CommandResult> {
  const ended = await runNextvlad(args);
  const what = JSON.stringify(args).slice(0, 300);
  for (const name of ["stdout", "stderr"] as const) assertClean(ended[name], `${name} of ${what}`);
  assert.equal(ended.exitCode, exitCode, `${what}: ${ended.stderr}`);
  return ended;
}

const root = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
const folder = join(root, HOSTILE);
const at = (...parts: string[]): string => join(folder, ...parts);
let config = "";

before(async () => {
  mkdirSync(folder);
  config = await prepareRun(folder, { trainVideos: 40, validateVideos: 4 });
  const hostile = { ...learnableVideo(1), id: HOSTILE_ID };
  await writeShard(at("ids.tfrecord"), [hostile, hostile, { ...hostile, labels: Int32Array.of(CLASSES) }, learnableVideo(2)]);
  await writeShard(at("corrupt.tfrecord"), [hostile, { ...hostile, id: `${HOSTILE_ID}2` }, learnableVideo(2)]);
  corruptData(at("corrupt.tfrecord"), 2);
  const context = { [HOSTILE]: Buffer.from("x"), id: Buffer.from(HOSTILE) };
  const frameLists = [{ name: HOSTILE, frameBytes: 4, data: new Uint8Array(8) }];
  writeFileSync(at("names.tfrecord"), encodeTfRecord(encodeSequenceExample({ context, frameLists })));
  const tensor = { name: HOSTILE, dtype: "F32", shape: [2], data: new Float32Array(2) } as const;
  writeFileSync(at("names.safetensors"), Buffer.concat([...encodeSafetensors([tensor])]));
  writeFileSync(at("bad.yaml"), JSON.stringify({ MODEL: { [HOSTILE]: HOSTILE, name: HOSTILE }, [HOSTILE]: {} }));
  writeFileSync(at("not.yaml"), `a: *${HOSTILE}`);
  writeFileSync(at("table.csv"), `id,labels\n"${HOSTILE.replaceAll('"', '""')}",1\n`);
  writeFileSync(at("type.csv"), "id,labels\ntype,1\n");
  // Version 3 of the format has a header in UTF-8; a value ends at a line break.
  const header = Buffer.from(`{'descr': '${HOSTILE.replace(/[\r\n\u2028]/g, "")}', 'fortran_order': False, 'shape': (1, 4), }`);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  writeFileSync(at("type.npy"), Buffer.concat([Buffer.from("\x93NUMPY\x03\x00", "latin1"), length, header, Buffer.alloc(16)]));
  const result = (id: string, score: unknown): string => `${JSON.stringify({ id, predictions: [{ class: 0, probability: score }] })}\n`;
  writeFileSync(at("one.jsonl"), result(HOSTILE, 0.5));
  writeFileSync(at("other.jsonl"), result(`${HOSTILE}2`, 0.5));
  writeFileSync(at("bad.jsonl"), result(HOSTILE, HOSTILE));
  writeFileSync(at("missing.list"), `${HOSTILE}.tfrecord\n`.replace(/[\r\n]+(?=.)/g, ""));
  writeFileSync(at("long.tfrecord"), encodeTfRecord(encodeVideo({ ...learnableVideo(3), id: LONG, labels: Int32Array.of(CLASSES) })));
});
after(() => rmSync(root, { recursive: true, force: true }));

const sizes = ["--set", "MODEL.video_feature_size=16", "--set", "MODEL.audio_feature_size=8", "--set", `MODEL.num_classes=${CLASSES}`];

describe("text from files, paths and arguments does not reach the terminal raw", { concurrency: false }, () => {
  test("in reports of verify and inspect; --json has it exactly", async () => {
    const text = await run(["verify", at("ids.tfrecord"), ...sizes], 1);
    assert.match(
      text.stdout,
      /^video \\x1B\[2J\\x1B\]0;title\\x07\\r\\nerror\[FORGED\]: forged\\u202E\\u2028\\u009B\\x7F\\u200B\\uFEFF\\xFF occurs 3 times/m,
    );
    const json = await run(["verify", at("ids.tfrecord"), "--json", ...sizes], 1);
    const report = JSON.parse(json.stdout) as VerifyReport;
    assert.deepEqual([report.repeated_ids[0]?.id, report.files[0]?.file], [`${HOSTILE}\\xFF`, at("ids.tfrecord")]);
    await run(["verify", at("missing.list")], 1);
    for (const name of ["ids.tfrecord", "names.tfrecord", "names.safetensors", "nowhere"]) {
      const exitCode = name === "nowhere" || name === "names.safetensors" ? 1 : 0;
      await run(["inspect", at(name)], exitCode);
      await run(["inspect", at(name), "--json"], exitCode);
    }
    const names = await run(["inspect", at("names.tfrecord"), "--json"], 0);
    assert.deepEqual(Object.keys((JSON.parse(names.stdout) as { lists: object }).lists), [HOSTILE]);
  });

  test("in errors about configs and usage, and in notes", async () => {
    await run(["verify", at("ids.tfrecord"), "--config", at("bad.yaml")], 2);
    await run(["verify", at("ids.tfrecord"), "--config", at("not.yaml")], 2);
    await run(["verify", at("ids.tfrecord"), "--set", HOSTILE], 2);
    await run(["verify", at("ids.tfrecord"), "--set", `MODEL.${HOSTILE}=1`], 2);
    await run(["verify", at("ids.tfrecord"), "--set", `MODEL.num_classes=${HOSTILE}`], 2);
    await run(["verify", `http://${HOSTILE}`], 2);
    for (const args of [
      [HOSTILE],
      [`--${HOSTILE}`],
      ["help", HOSTILE],
      ["train", HOSTILE],
      ["eval", `--${HOSTILE}`],
      ["digits", "-o", HOSTILE],
    ])
      await run(args, 2);
    for (const command of ["export", "convert", "digits", "setup", "ensemble", "inspect"])
      await run([command, `--${HOSTILE}=${HOSTILE}`], 2);
    await run(["export", "--format", HOSTILE, "--out", at("x")], 2);
    await run(["digits", "--out", at("x"), "--seed", HOSTILE], 2);
    await run(["setup", "--device", HOSTILE], 2);
    await run(["ensemble", at("one.jsonl"), "--weights", HOSTILE], 2);
    const home = process.env.HOME;
    process.env.HOME = folder;
    try {
      await run(["inspect", "~/nowhere"], 1);
    } finally {
      process.env.HOME = home;
    }
  });

  test("in convert, ensemble and digits", async () => {
    const out = ["--out", at("converted")];
    await run(["convert", "--to", "tfrecord", "--csv", at("table.csv"), "--rgb", at("{id}.npy"), ...out], 1);
    await run(["convert", "--to", "tfrecord", "--csv", at("type.csv"), "--rgb", at("{id}.npy"), ...out], 1);
    await run(["convert", "--to", "pkl", "--filelist", at("names.tfrecord"), ...out], 1);
    const { stdout } = await run(["convert", "--to", "pkl", "--filelist", at("ids.tfrecord"), "--workers", "1", ...out], 0);
    assert.match(stdout, /^list: .*\\x1B\[2J.*ids\.list$/m);
    const saveDir = ["--save-dir", at("ensemble")];
    await run(["ensemble", at("one.jsonl"), at("other.jsonl"), ...saveDir], 1);
    await run(["ensemble", at("one.jsonl"), at("bad.jsonl"), ...saveDir], 1);
    await run(["ensemble", at("one.jsonl"), at("one.jsonl"), "--format", "jsonl", ...saveDir], 0);
    const results = readFileSync(at("ensemble", "NEXTVLAD_ensemble_result.jsonl"), "utf8");
    assert.equal((JSON.parse(results) as { id: string }).id, HOSTILE, "results stay exact");
    await run(["digits", "--out", at("digits"), "--train-videos", "1", "--validate-videos", "1"], 0);
  });

  test("in train, eval, infer and export, nor in their logs and lists", async () => {
    const train = ["train", "--config", config, "--epoch", "1", "--valid-interval", "0"];
    await run([...train, "--save-dir", at("run")], 0);
    await run([...train, "--save-dir", at("run")], 1);
    const weights = ["--weights", at("run", "NEXTVLAD_epoch0")];
    const shard = ["--filelist", at("corrupt.tfrecord"), "--on-corrupt", "skip-record"];
    await run(["eval", ...weights, ...shard, "--save-dir", at("eval")], 0);
    await run(["eval", ...weights, "--filelist", at("ids.tfrecord"), "--save-dir", at("eval")], 1);
    await run(["infer", ...weights, ...shard, "--save-dir", at("infer"), "--format", "jsonl"], 0);
    const [line = ""] = readFileSync(at("infer", "NEXTVLAD_infer_result.jsonl"), "utf8").split("\n");
    assert.equal((JSON.parse(line) as { id: string }).id, `${HOSTILE}\\xFF`, "results stay exact");
    await run(["infer", "--weights", at("names.safetensors"), ...shard, "--config", config, "--save-dir", at("infer")], 1);
    await run(["export", ...weights, "--format", "npz", "--out", at("weights.npz")], 0);
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
      /(\.log\.jsonl|corrupt_records\.json)$/.test(name),
    );
    assert.ok(files.length >= 6, files.join());
    for (const file of files) assertClean(readFileSync(at(file), "utf8"), file);
  });
});

test("a log message is one line on stderr, and the same text in the file", async () => {
  const stderr = new Capture(false);
  const logFile = join(root, "log.jsonl");
  const telemetry = await createTelemetry({ logFile, stderr: stderr.stream });
  telemetry.log.warn({ path: HOSTILE }, HOSTILE);
  telemetry.log.warn(LONG);
  await telemetry.close();
  assertClean(stderr.text, "stderr");
  assert.equal(stderr.text.split("\n").length, 3);
  assert.ok(stderr.text.length < PIPE_BYTES);
  const text = readFileSync(logFile, "utf8");
  assertClean(text, "the log");
  const entry = JSON.parse(text.split("\n")[0] ?? "") as { path: string; msg: string };
  assert.deepEqual([entry.path, entry.msg], [HOSTILE, HOSTILE]);
});

test("long values are shown in part, with their length", async () => {
  const list = at("long.list");
  writeFileSync(list, `${LONG}\n`);
  const shard = at("long.tfrecord");
  for (const [args, exitCode] of [
    [["verify", shard, ...sizes], 1],
    [["inspect", shard], 0],
    [["verify", list], 1],
    [["verify", shard, "--set", `MODEL.${LONG}=1`], 2],
    [["verify", shard, "--set", `MODEL.num_classes=${LONG}`], 2],
    [["inspect", LONG], 1],
    [[LONG], 2],
    [["eval", `--${LONG}`], 2],
    [["ensemble", at("one.jsonl"), "--weights", LONG], 2],
  ] as const) {
    const { stdout, stderr } = await run(args, exitCode);
    assert.ok(stdout.length + stderr.length < 10_000, `${stdout.length + stderr.length} characters for ${args[0]?.slice(0, 10)}`);
    assert.match(stdout + stderr, /x\.\.\.x+['"]?.*\(\d+ characters\)/);
  }
});
