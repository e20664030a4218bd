import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { writeShard } from "../../src/data/shard-writer.js";
import { corruptData, corruptLength, recordOffsets, truncateRecord } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { CLASSES, learnableVideo, prepareRun, readLog } from "../helpers/runs.js";

const parts = ["weights.safetensors", "optimizer.safetensors", "state.json"];
const endOf = (saveDir: string, snapshot: string) => parts.map((name) => readFileSync(join(saveDir, snapshot, name)));
const listIn = (saveDir: string, command: string) =>
  JSON.parse(readFileSync(join(saveDir, `${command}.corrupt_records.json`), "utf8")) as Record<string, unknown>[];

async function run(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stderr + stdout;
}

describe("--on-corrupt in training", { concurrency: 2 }, () => {
  test("skips corrupt records, logs and lists them; a resumed run produces the same result as an uninterrupted one", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 200 });
    const [first, second] = [0, 1].map((shard) => join(folder, `train${shard}.tfrecord`)) as [string, string];
    corruptData(first, 0);
    corruptData(first, 40);
    const cutAt = recordOffsets(second)[90];
    corruptLength(second, 90);
    const at = (name: string): string[] => ["train", "--config", config, "--save-dir", join(folder, name)];
    const refused = await runNextvlad(at("refused"));
    assert.equal(refused.exitCode, 1);
    assert.match(refused.error, /train0\.tfrecord, record 0, .*checksum/);

    const printed = await run(...at("straight"), "--on-corrupt", "skip-record");
    assert.match(printed, /INFO: corrupt, skipped because of on_corrupt: \S+train0\.tfrecord, record 0, /);
    assert.match(printed, /WARN: skipped a corrupt record: \S+train0\.tfrecord, record 40, byte \d+: the checksum of the record's data/);
    assert.match(
      printed,
      /WARN: skipped the rest of a corrupt shard: \S+train1\.tfrecord, record 90, byte \d+: the checksum of the record's length/,
    );
    for (const epoch of [0, 1]) {
      const line = `WARN: epoch ${epoch}: skipped 2 corrupt records and the rest of 1 corrupt shard, listed in `;
      assert.ok(printed.includes(line), printed);
    }
    const places = listIn(join(folder, "straight"), "train").map(({ shard, record, skipped }) => [shard, record, skipped]);
    assert.deepEqual(places.sort(), [
      [first, 0, "record"],
      [first, 40, "record"],
      [second, 90, "rest of shard"],
    ]);
    const ofLength = listIn(join(folder, "straight"), "train").find(({ record }) => record === 90);
    assert.deepEqual([ofLength?.byte_offset, ofLength?.code], [cutAt, "CORRUPT_RECORD"]);
    // 188 videos are left, 11 steps per epoch: the run stops inside the first epoch and inside the second, and reads the policy from the snapshot.
    await run(...at("resumed"), "--on-corrupt", "skip-record", "--set", "TRAIN.max_iter=7");
    const firstCorrupt = (snapshot: string): { shard: number; record: number }[] =>
      JSON.parse(readFileSync(join(folder, "resumed", snapshot, "state.json"), "utf8")).shards.first_corrupt;
    assert.deepEqual(
      firstCorrupt("NEXTVLAD_step7").filter(({ shard }) => shard === 0),
      [{ shard: 0, record: 0 }],
    );
    const resume = ["train", "--save-dir", join(folder, "resumed"), "--resume"];
    await run(...resume, "--set", "TRAIN.max_iter=15");
    assert.deepEqual(firstCorrupt("NEXTVLAD_epoch0"), []);
    const changed = await runNextvlad([...resume, "--on-corrupt", "skip-shard"]);
    assert.equal(changed.exitCode, 2);
    assert.match(changed.error, /TRAIN\.on_corrupt: a resumed run cannot change this setting \(expected skip-record, found skip-shard\)/);
    await run(...resume, "--set", "TRAIN.max_iter=700000");
    for (const name of ["NEXTVLAD_epoch1", "best"]) {
      assert.deepEqual(endOf(join(folder, "resumed"), name).slice(0, 2), endOf(join(folder, "straight"), name).slice(0, 2));
    }
    assert.deepEqual(
      listIn(join(folder, "resumed"), "train")
        .map(({ record }) => record)
        .sort(),
      places.map(([, record]) => record).sort(),
    );
  });

  test("resumes inside the epoch after a truncated shard is replaced, with the same result as with the intact shard", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 200 });
    const shard = join(folder, "train0.tfrecord");
    // Compressed, because the check of record headers before the first step does not detect truncation of compressed shards.
    const good = gzipSync(readFileSync(shard));
    writeFileSync(shard, good);
    const at = (name: string): string[] => ["train", "--config", config, "--save-dir", join(folder, name), "--epoch", "1"];
    await run(...at("straight"));
    writeFileSync(shard, good.subarray(0, Math.floor(good.length * 0.9)));
    const ended = await runNextvlad(at("ended"));
    assert.equal(ended.exitCode, 1);
    const [, command] = /NEXTVLAD_step[1-9]\d*\nresume with: nextvlad (.*)\n/.exec(ended.stderr) ?? [];
    assert.ok(command !== undefined, ended.stderr);
    writeFileSync(shard, good);
    await run(...command.split(" "));
    assert.deepEqual(endOf(join(folder, "ended"), "best").slice(0, 2), endOf(join(folder, "straight"), "best").slice(0, 2));
  });

  test("without a policy saves the last step before the corrupt record; the printed command resumes, with the same result as a run that skipped it", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 200 });
    const shard = join(folder, "train0.tfrecord");
    const intact = readFileSync(shard);
    corruptData(shard, 80);
    corruptData(join(folder, "validate1.tfrecord"), 10);
    const at = (name: string): string[] => ["train", "--config", config, "--save-dir", join(folder, name), "--epoch", "1"];
    const whole = await run(...at("whole"), "--on-corrupt", "skip-record");
    assert.match(whole, /validation: skipped 1 corrupt record/);

    const ended = await runNextvlad([...at("ended"), "--overwrite", "--fix-random-seed=0"]);
    assert.equal(ended.exitCode, 1);
    const [, step, plain, skipping] =
      /train0\.tfrecord, record 80, .*\n {2}help: .*; or skip corrupt records with --on-corrupt skip-record; training stopped after (\d+) steps; the last snapshot is \S+NEXTVLAD_step\1\nresume with: nextvlad (.*)\nor, to skip corrupt records: nextvlad (.*)\n$/.exec(
        ended.stderr,
      ) ?? [];
    assert.ok(Number(step) > 0, ended.stderr);
    assert.equal(plain, `${at("ended").join(" ")} --fix-random-seed 0 --resume`);
    assert.equal(skipping, `${plain} --on-corrupt skip-record`);
    await run(...(skipping as string).split(" "));
    assert.deepEqual(endOf(join(folder, "ended"), "best").slice(0, 2), endOf(join(folder, "whole"), "best").slice(0, 2));

    writeFileSync(shard, intact);
    // During validation, the last step is already saved in the epoch's snapshot, so it is not written twice.
    const validating = await runNextvlad([
      "train",
      "--resume",
      join(folder, "ended", `NEXTVLAD_step${step}`),
      "--save-dir",
      join(folder, "other"),
    ]);
    assert.match(
      validating.stderr,
      /validate1\.tfrecord, record 10, .*\n {2}help: .*; the last snapshot is \S+NEXTVLAD_epoch0\nresume with: nextvlad train .*other --resume\n/,
    );
    assert.equal(validating.stderr.match(/INFO: snapshot: /g)?.length, 1);
    assert.equal(validating.error.match(/or skip corrupt records with/g)?.length, 1);
  });

  test("with skip-shard skips the rest of the shard; too few remaining videos are an error", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    corruptData(join(folder, "train0.tfrecord"), 10);
    corruptData(join(folder, "validate1.tfrecord"), 5);
    const args = ["train", "--config", config, "--save-dir", join(folder, "out"), "--on-corrupt", "skip-shard", "--epoch", "1"];
    const printed = await run(...args);
    assert.match(printed, /epoch 0: skipped the rest of 1 corrupt shard/);
    assert.match(printed, /validation: skipped the rest of 1 corrupt shard/);
    // 10 and 50 videos are left: 3 steps of 16.
    assert.match(printed, /steps: 3\b/);
    for (const shard of [0, 1]) corruptLength(join(folder, `train${shard}.tfrecord`), 3);
    const refused = await runNextvlad([...args, "--overwrite"]);
    assert.equal(refused.exitCode, 1);
    assert.match(refused.stderr, /expected at least 16 videos, found 6 in 2 shards/);
    assert.equal(listIn(join(folder, "out"), "train").length, 2);
    const misspelt = await runNextvlad([...args, "--on-corrupt", "skip"]);
    assert.equal(misspelt.exitCode, 2);
    assert.match(misspelt.error, /--on-corrupt.*error, skip-record or skip-shard/);
  });
});

test("eval and infer skip corrupt data and report how much; a label out of range is still an error", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  await run("train", "--config", config, "--save-dir", join(folder, "train"), "--epoch", "1", "--valid-interval", "0");
  corruptData(join(folder, "validate0.tfrecord"), 3);
  truncateRecord(join(folder, "validate1.tfrecord"), 15);
  const weights = ["--weights", join(folder, "train", "NEXTVLAD_epoch0"), "--on-corrupt", "skip-record", "--save-dir", join(folder, "out")];
  // 20 videos per shard: one is corrupt, and five are cut off.
  const evaluated = await run("eval", ...weights);
  assert.match(evaluated, /WARN: eval: skipped 1 corrupt record and the rest of 1 corrupt shard/);
  assert.equal(JSON.parse(readFileSync(join(folder, "out", "NEXTVLAD_eval_result.json"), "utf8")).videos, 34);
  assert.match(await run("infer", ...weights), /WARN: infer: skipped 1 corrupt record and the rest of 1 corrupt shard[\s\S]*videos: 34\b/);
  for (const command of ["eval", "infer"]) {
    assert.deepEqual(
      listIn(join(folder, "out"), command).map(({ record, skipped, code }) => [record, skipped, code]),
      [
        [3, "record", "CORRUPT_RECORD"],
        [15, "rest of shard", "CORRUPT_RECORD"],
      ],
    );
  }
  const warnings = readLog(join(folder, "out"), "eval.log.jsonl").filter(({ skipped }) => skipped !== undefined);
  assert.equal(warnings.length, 2);

  // ensemble skips the labels of the records that infer skipped.
  const average = [
    "ensemble",
    join(folder, "out", "NEXTVLAD_infer_result.pkl"),
    "--filelist",
    join(folder, "validate.list"),
    "--config",
    config,
  ];
  const exact = await runNextvlad([...average, "--save-dir", join(folder, "exact")]);
  assert.equal(exact.exitCode, 1);
  // Detected before the first record is read.
  assert.match(exact.error, /validate1\.tfrecord, record 15, .*: the file ends in the middle of a record/);
  const averaged = await run(...average, "--save-dir", join(folder, "out"), "--set", "TEST.on_corrupt=skip-record");
  assert.match(averaged, /WARN: ensemble: skipped 1 corrupt record and the rest of 1 corrupt shard[\s\S]*videos: 34\b/);
  assert.deepEqual(listIn(join(folder, "out"), "ensemble"), listIn(join(folder, "out"), "infer"));

  // A run without corrupt data removes the list of an earlier run.
  await run("infer", ...weights, "--filelist", join(folder, "train0.tfrecord"));
  assert.equal(existsSync(join(folder, "out", "infer.corrupt_records.json")), false);

  // A run that failed at the first corrupt record resumes with a policy, and gives the same results as a run that had the policy from the start.
  const mixed = join(folder, "mixed.list");
  writeFileSync(mixed, "train0.tfrecord\nvalidate0.tfrecord\n");
  const results = { eval: "NEXTVLAD_eval_result.json", infer: "NEXTVLAD_infer_result.pkl" } as const;
  for (const command of ["eval", "infer"] as const) {
    const reading = [...weights.slice(0, 2), "--filelist", mixed, "--batch-size", "4"];
    const at = (name: string): string[] => [command, ...reading, "--save-dir", join(folder, name)];
    const ended = await runNextvlad([...at("ended"), "--save-interval", "1"]);
    assert.equal(ended.exitCode, 1);
    assert.match(ended.error, /validate0\.tfrecord, record 3, .*checksum/);
    const more = await run(...at("ended"), "--resume", "--on-corrupt", "skip-record");
    assert.match(more, /resuming after batch 1[0-2]: 4\d videos are done/);
    await run(...at("whole"), "--on-corrupt", "skip-record");
    const [one, other] = ["ended", "whole"].map((name) => readFileSync(join(folder, name, results[command])));
    assert.deepEqual(one, other);
    assert.deepEqual(listIn(join(folder, "ended"), command), listIn(join(folder, "whole"), command));
  }

  const odd = join(folder, "odd.tfrecord");
  await writeShard(odd, [learnableVideo(1), { ...learnableVideo(2), labels: Int32Array.of(CLASSES) }]);
  const refused = await runNextvlad(["eval", ...weights, "--filelist", odd]);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.error, /odd\.tfrecord, record 1, .*a label is not one of the model's classes/);

  const ruined = join(folder, "ruined.tfrecord");
  await writeShard(ruined, [learnableVideo(1)]);
  corruptData(ruined, 0);
  for (const command of ["eval", "infer"]) {
    const empty = await runNextvlad([command, ...weights, "--filelist", ruined, "--save-dir", join(folder, "empty")]);
    assert.equal(empty.exitCode, 1);
    assert.match(empty.error, /ruined\.tfrecord: the shards contain no videos/);
    assert.equal(existsSync(join(folder, "empty", "NEXTVLAD_infer_result.pkl")), false);
  }
});
