import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { setStopRequest } from "../../src/base/waiting.js";
import { convert as convertShards } from "../../src/conversion/convert.js";
import { planOwnFeatures } from "../../src/conversion/plan.js";
import { readShard } from "../../src/data/shard-reader.js";
import { writeShard } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { blockFiles, temporaryFolder } from "../helpers/files.js";
import { type CommandResult, compiled, runNextvlad } from "../helpers/nextvlad.js";
import { encodeNpy } from "../helpers/npy.js";
import { collect, failsWith, goldenData, goldenVideos, randomVideo, writeShards } from "../helpers/shards.js";
import { Capture } from "../helpers/terminal.js";

const convert = (...args: readonly string[]): Promise<CommandResult> => runNextvlad(["convert", ...args]);

async function converted(...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await convert(...args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

const readVideos = (path: string): Promise<Video[]> =>
  collect(
    readShard(path, { maxFrames: 1e6, featureNames: ["rgb", "audio"], featureSizes: [null, null], numClasses: 1e6, labels: "optional" }),
    ({ video }) => video,
  );

/** Returns the content of the shards and lists in a folder, by name. */
function contentOf(folder: string): Map<string, Buffer> {
  const names = readdirSync(folder).filter((name) => /\.(pkl|tfrecord|list)$/.test(name));
  return new Map(names.sort().map((name) => [name, readFileSync(join(folder, name))]));
}

describe("shards", () => {
  test("TFRecord to pickle and back keeps IDs, labels and feature bytes, for every compression", async (t) => {
    const folder = temporaryFolder(t);
    for (const name of ["train0000.tfrecord", "train0000.tfrecord.gz", "train0000.tfrecord.zlib"]) {
      const [pickles, back] = [join(folder, `${name}-pkl`), join(folder, `${name}-back`)];
      const printed = await converted("--to", "pkl", "--filelist", goldenData(name), "--out", pickles);
      assert.match(printed, /^\[CONVERT\] convert finished\. \tvideos: 4,\tshards: 1\nmodel: --set MODEL\.video_feature_size=1024 --set/);
      assert.deepEqual(await readVideos(join(pickles, "train0000.pkl")), goldenVideos());
      await converted("--to", "tfrecord", "--filelist", join(pickles, "train0000.list"), "--out", back);
      assert.deepEqual(await readVideos(join(back, "train0000.tfrecord")), goldenVideos());
      assert.equal(readFileSync(join(back, "train0000.list"), "utf8"), "train0000.tfrecord\n");
    }
  });

  test("empty and repeated shards are converted as listed, with warnings; a zip file, and a list of only empty shards, fail", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [2]);
    const full = shards[0] as string;
    writeFileSync(join(folder, "none.tfrecord"), "");
    writeFileSync(join(folder, "a.list"), `${full}\nnone.tfrecord\n${full}\n`);
    const { exitCode, stdout, stderr } = await convert("--to", "pkl", "--filelist", join(folder, "a.list"), "--out", join(folder, "out"));
    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /videos: 2,\tshards: 2\n/);
    assert.match(stderr, /WARN: \S+a\.list lists a shard more than once: \S+ 2 times; each is converted once, and listed as often/);
    assert.match(stderr, /WARN: 1 of 2 shards is empty \(0 records\): \S+none\.tfrecord/);
    const name = basename(full).replace("tfrecord", "pkl");
    assert.equal(readFileSync(join(folder, "out", "a.list"), "utf8"), `${name}\nnone.pkl\n${name}\n`);
    assert.deepEqual(await readVideos(join(folder, "out", "none.pkl")), []);
    writeFileSync(join(folder, "zip.tfrecord"), Buffer.concat([Buffer.from("504b0304", "hex"), Buffer.alloc(99)]));
    const refused = await convert("--to", "pkl", "--filelist", join(folder, "*.tfrecord"), "--out", join(folder, "other"));
    assert.equal(refused.exitCode, 1);
    assert.match(refused.error, /zip\.tfrecord, byte 0: this is a zip archive, not a TFRecord file\. Unpack it and/);
    for (const attempt of [1, 2]) {
      const nothing = await convert("--to", "pkl", "--filelist", join(folder, "none.tfrecord"), "--out", join(folder, "nothing"));
      assert.equal(nothing.exitCode, 1, `attempt ${attempt}`);
      assert.match(nothing.error, /none\.tfrecord: the shard is empty: there are no records/);
      assert.deepEqual([...contentOf(join(folder, "nothing")).keys()], []);
    }
  });

  test("pickles of every writer give the same shards", async (t) => {
    const folder = temporaryFolder(t);
    const list = join(folder, "all.list");
    writeFileSync(list, ["feat_p2_bytes.pkl", "feat_p4_str.pkl", "feat_py2_style.pkl"].map((name) => `${goldenData(name)}\n`).join(""));
    await converted("--to", "tfrecord", "--filelist", list, "--out", join(folder, "out"));
    const shards = [...contentOf(join(folder, "out"))];
    assert.deepEqual(
      shards.map(([name]) => name),
      ["all.list", "feat_p2_bytes.tfrecord", "feat_p4_str.tfrecord", "feat_py2_style.tfrecord"],
    );
    assert.deepEqual(shards[1]?.[1], shards[2]?.[1]);
    assert.deepEqual(shards[1]?.[1], shards[3]?.[1]);
  });

  test("AudioSet's shards, with one feature of another name, are converted to pickles", async (t) => {
    const folder = temporaryFolder(t);
    const data = new Uint8Array(30).map((_, i) => i);
    const record = encodeSequenceExample({
      context: { video_id: Buffer.from("abc"), labels: [526] },
      frameLists: [{ name: "audio_embedding", frameBytes: 10, data }],
    });
    writeFileSync(join(folder, "x.tfrecord"), encodeTfRecord(record));
    const names = ["--feature-names", "rgb,audio_embedding"];
    await converted("--to", "pkl", "--filelist", join(folder, "x.tfrecord"), "--out", join(folder, "out"), ...names);
    const expected = { id: "abc", frames: 3, rgb: new Uint8Array(0), audio: data, labels: Int32Array.of(526) };
    assert.deepEqual(await readVideos(join(folder, "out", "x.pkl")), [expected]);
  });
});

describe("an interrupted conversion", () => {
  const COUNTS = Array(40).fill(60);

  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    test(`by ${signal} continues to the same bytes, without converting a shard twice`, async (t) => {
      const folder = temporaryFolder(t);
      mkdirSync(join(folder, "in"));
      await writeShards(join(folder, "in"), COUNTS);
      const args = ["--to", "pkl", "--filelist", `${folder}/in/*.tfrecord`, "--workers", "2"];
      const [straight, stopped] = [join(folder, "straight"), join(folder, "stopped")];
      await converted(...args, "--out", straight);

      const child = spawn(process.execPath, [compiled("nextvlad.cjs"), "convert", ...args, "--out", stopped]);
      child.stderr.once("data", () => child.kill(signal));
      const [exitCode] = await once(child, "close");
      assert.equal(exitCode, signal === "SIGTERM" ? 143 : null);
      const before = [...contentOf(stopped).keys()];
      assert.ok(before.length > 0 && before.length < COUNTS.length, `${before.length} shards were converted`);
      const times = before.map((name) => statSync(join(stopped, name)).mtimeMs);
      // The temporary file of a process that was killed while it wrote a shard.
      writeFileSync(join(stopped, `.shard039.pkl.unfinished-${child.pid}`), "half");

      const printed = await converted(...args, "--out", stopped);
      assert.ok(printed.includes(`up to date: ${before.length}\n`), printed);
      assert.deepEqual(contentOf(stopped), contentOf(straight));
      assert.deepEqual(
        before.map((name) => statSync(join(stopped, name)).mtimeMs),
        times,
      );
      assert.ok(!readdirSync(stopped).some((name) => name.includes("unfinished")));
    });
  }

  test("by an error keeps the complete shards, and continues after the error is fixed", async (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(join(folder, "in"));
    const { shards } = await writeShards(join(folder, "in"), [5, 5, 5]);
    const damaged = shards[1] as string;
    const whole = readFileSync(damaged);
    truncateSync(damaged, whole.length - 1);
    const args = ["--to", "pkl", "--filelist", `${folder}/in/*.tfrecord`, "--out", join(folder, "out"), "--workers", "1"];
    const failed = await convert(...args);
    assert.deepEqual([failed.exitCode, failed.stdout], [1, ""]);
    assert.match(failed.error, /shard001\.tfrecord, record 4, byte \d+: the file ends in the middle of a record/);
    assert.deepEqual([...contentOf(join(folder, "out")).keys()], ["shard000.pkl"]);
    writeFileSync(damaged, whole);
    assert.match(await converted(...args), /videos: 10,\tshards: 2,\tup to date: 1\n/);
  });
});

test("a directory is locked for one conversion; moving the directory during a conversion is an error", async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "in"));
  await writeShards(join(folder, "in"), Array(40).fill(60));
  const out = join(folder, "out");
  const args = ["--to", "pkl", "--filelist", `${folder}/in/*.tfrecord`, "--out", out, "--workers", "1"];
  const child = spawn(process.execPath, [compiled("nextvlad.cjs"), "convert", ...args]);
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  await once(child.stderr, "data");
  child.kill("SIGSTOP");
  const second = await convert(...args);
  assert.equal(second.exitCode, 1);
  assert.match(second.error, /another run is writing to this directory: process \d+ on /);
  renameSync(out, join(folder, "elsewhere"));
  child.kill("SIGCONT");
  assert.deepEqual(await once(child, "close"), [1, null]);
  // The first error occurs if the process was between two shards, the second if it was writing one.
  assert.match(stderr, /cannot write: (the directory was removed|the directory does not exist)/);
  // A list would name shards that do not exist.
  assert.deepEqual(existsSync(out) ? readdirSync(out).filter((name) => name.endsWith(".list")) : [], []);
});

describe("an existing output directory", () => {
  test("has its shards converted again if a source or a setting has changed", async (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(join(folder, "in"));
    const { shards } = await writeShards(join(folder, "in"), [3, 4]);
    const args = ["--to", "pkl", "--filelist", `${folder}/in/*.tfrecord`, "--out", join(folder, "out")];
    await converted(...args);
    await writeShard(shards[0] as string, [randomVideo(99)]);
    utimesSync(shards[0] as string, 1e9, 1e9);
    assert.match(await converted(...args), /videos: 1,\tshards: 1,\tup to date: 1\n/);
    assert.deepEqual(await readVideos(join(folder, "out", "shard000.pkl")), [randomVideo(99)]);
    assert.match(await converted(...args, "--max-frames", "2"), /videos: 5,\tshards: 2\n/);
    assert.ok((await readVideos(join(folder, "out", "shard000.pkl"))).every(({ frames }) => frames <= 2));
  });

  test("with files of other programs is not changed", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [3, 4]);
    const out = join(folder, "out");
    mkdirSync(out);
    writeFileSync(join(out, "shard001.pkl"), "mine");
    const refused = await convert("--to", "pkl", "--filelist", `${folder}/*.tfrecord`, "--out", out);
    assert.equal(refused.exitCode, 1);
    assert.match(refused.error, /shard001\.pkl: the new shards would replace a file that convert did not write\. Use another --out/);
    assert.deepEqual([...contentOf(out)], [["shard001.pkl", Buffer.from("mine")]]);
    // A pipe is not replaced either, even with --overwrite.
    rmSync(join(out, "shard001.pkl"));
    execFileSync("mkfifo", [join(out, "shard001.pkl")]);
    const pipe = await convert("--to", "pkl", "--filelist", `${folder}/*.tfrecord`, "--out", out, "--overwrite");
    assert.equal(pipe.exitCode, 1);
    assert.match(pipe.error, /shard001\.pkl: cannot replace it: it is not a regular file \(found a pipe\)/);
    rmSync(join(out, "shard001.pkl"));
    writeFileSync(join(out, "shard001.pkl"), "mine");
    await converted("--to", "pkl", "--filelist", `${folder}/*.tfrecord`, "--out", out, "--overwrite");
    assert.equal((await readVideos(join(out, "shard001.pkl"))).length, 4);
    // A shard does not replace its own source, and two shards do not get the same name.
    const same = await convert("--to", "tfrecord", "--filelist", shards[0] as string, "--out", folder);
    assert.equal(same.exitCode, 2);
    assert.match(same.error, /shard000\.tfrecord, --out: the output would replace a source shard/);
    symlinkSync(folder, join(folder, "link"));
    const linked = await convert("--to", "tfrecord", "--filelist", shards[0] as string, "--out", join(folder, "link"), "--overwrite");
    assert.match(linked.error, /--out: the output would replace a source shard/);
    assert.equal((await readVideos(shards[0] as string)).length, 3);
    cpSync(shards[0] as string, join(folder, "shard000.tfrecord.gz"));
    const sameName = await convert("--to", "pkl", "--filelist", `${folder}/shard000*`, "--out", out);
    assert.equal(sameName.exitCode, 2);
    assert.match(sameName.error, /two shards would have the same output: .*shard000\.tfrecord and .*shard000\.tfrecord\.gz\./);
  });

  test("keeps a list that convert did not write, unless --overwrite is given, also when a conversion continues", async (t) => {
    const folder = temporaryFolder(t);
    await writeShards(folder, [1, 1]);
    const list = join(folder, "train.list");
    const args = ["--to", "pkl", "--filelist", list, "--out", folder];
    for (const own of ["# mine\nshard000.tfrecord\n", "shard000.tfrecord\nshard001.tfrecord\n"]) {
      writeFileSync(list, own);
      const refused = await convert(...args);
      assert.equal(refused.exitCode, 1);
      assert.match(refused.error, /train\.list: the file already exists\. Use another path, or replace it with --overwrite/);
      assert.equal(readFileSync(list, "utf8"), own);
      assert.deepEqual([...contentOf(folder).keys()], ["shard000.tfrecord", "shard001.tfrecord", "train.list"]);
    }
    // With another setting, shards become outdated: our list is removed until they are converted again; the user's is kept.
    const out = join(folder, "out");
    const inOut = ["--to", "pkl", "--filelist", list, "--out", out];
    await converted(...inOut);
    assert.match(await converted(...inOut, "--max-frames", "2"), /shards: 2\n/);
    writeFileSync(join(out, "train.list"), "shard000.pkl\n");
    const edited = await convert(...inOut);
    assert.match(edited.error, /out\/train\.list: the file already exists/);
    assert.equal(readFileSync(join(out, "train.list"), "utf8"), "shard000.pkl\n");
    await converted(...inOut, "--overwrite");
    assert.equal(readFileSync(join(out, "train.list"), "utf8"), "shard000.pkl\nshard001.pkl\n");
    // The source list is kept too, although convert wrote it.
    const back = await convert("--to", "tfrecord", "--filelist", join(out, "train.list"), "--out", out);
    assert.match(back.error, /out\/train\.list: the file already exists/);
    assert.equal(readFileSync(join(out, "train.list"), "utf8"), "shard000.pkl\nshard001.pkl\n");
    await converted(...args, "--overwrite");
    assert.equal(readFileSync(list, "utf8"), "shard000.pkl\nshard001.pkl\n");
  });

  test("has a list that can be read for all names of shards", async (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(join(folder, "in"));
    const names = ["#a", " b", "c\nd", "e"];
    for (const [number, name] of names.entries()) await writeShard(join(folder, "in", `${name}.tfrecord`), [randomVideo(number)]);
    const out = join(folder, "out");
    await converted("--to", "pkl", "--filelist", `${folder}/in/*.tfrecord`, "--out", out);
    const back = join(folder, "back");
    await converted("--to", "tfrecord", "--filelist", join(out, "shards.list"), "--out", back);
    assert.deepEqual(
      readdirSync(back)
        .filter((name) => name.endsWith(".tfrecord"))
        .sort(),
      names.map((name) => `${name}.tfrecord`).sort(),
    );
    for (const [number, name] of names.entries()) assert.deepEqual(await readVideos(join(back, `${name}.tfrecord`)), [randomVideo(number)]);
  });

  test("accepts further shards, unless its ledger is corrupt", async (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(join(folder, "in"));
    const { shards } = await writeShards(join(folder, "in"), [3, 4]);
    const out = join(folder, "out");
    for (const shard of shards) await converted("--to", "pkl", "--filelist", shard, "--out", out);
    assert.match(await converted("--to", "pkl", "--filelist", `${folder}/in/*.tfrecord`, "--out", out), /shards: 0,\tup to date: 2\n/);
    assert.equal(readFileSync(join(out, "shards.list"), "utf8"), "shard000.pkl\nshard001.pkl\n");
    writeFileSync(join(out, "convert.json"), "{}");
    const refused = await convert("--to", "pkl", "--filelist", shards[0] as string, "--out", out);
    assert.match(refused.error, /convert\.json: not a conversion ledger, or corrupt/);
  });
});

describe("the user's own features", () => {
  /** Writes feature files and a table of `count` videos, with 5 values of rgb and 3 of audio per frame. */
  function prepare(folder: string, count: number): void {
    mkdirSync(join(folder, "rgb"));
    mkdirSync(join(folder, "audio"));
    for (let number = 0; number < count; number++) {
      const frames = 1 + (number % 4);
      const rgb = new Float32Array(frames * 5).map((_, i) => ((number + i) % 9) / 2 - 2);
      writeFileSync(join(folder, "rgb", `v${number}.npy`), encodeNpy(rgb, [frames, 5]));
      writeFileSync(join(folder, "audio", `v${number}.npy`), encodeNpy(new Uint8Array(frames * 3).fill(number), [frames, 3]));
    }
    writeFileSync(
      join(folder, "train.csv"),
      `id,labels\n${Array.from({ length: count }, (_, number) => `v${number},${number % 12} 3\n`).join("")}`,
    );
  }

  test("are converted to shards in the table's order, and a list", async (t) => {
    const folder = temporaryFolder(t);
    prepare(folder, 11);
    const args = ["--to", "tfrecord", "--csv", join(folder, "train.csv"), "--videos-per-shard", "4", "--out", join(folder, "out")];
    const patterns = ["--rgb", join(folder, "rgb/{id}.npy"), "--audio", join(folder, "audio/{id}.npy")];
    const printed = await converted(...args, ...patterns, "--rgb-range", "-2..1");
    assert.equal(
      printed,
      `[CONVERT] convert finished. \tvideos: 11,\tshards: 3
rgb: values from -2 to 2, ${clippedPercent(11)} % of them outside --rgb-range
model: --set MODEL.video_feature_size=5 --set MODEL.audio_feature_size=3
list: ${join(folder, "out", "train.list")}
`,
    );
    assert.equal(readFileSync(join(folder, "out", "train.list"), "utf8"), "train0000.tfrecord\ntrain0001.tfrecord\ntrain0002.tfrecord\n");
    const videos = (await Promise.all([0, 1, 2].map((shard) => readVideos(join(folder, "out", `train000${shard}.tfrecord`))))).flat();
    assert.deepEqual(
      videos,
      Array.from({ length: 11 }, (_, number): Video => {
        const frames = 1 + (number % 4);
        const rgb = new Uint8Array(frames * 5).map((_, i) => Math.round(Math.min(3, ((number + i) % 9) / 2) * 85));
        return {
          id: `v${number}`,
          frames,
          rgb,
          audio: new Uint8Array(frames * 3).fill(number),
          labels: Int32Array.from(new Set([number, 3])).sort(),
        };
      }),
    );
    // Nothing to do at first; then one feature file changes, and its shard is converted again.
    assert.match(await converted(...args, ...patterns, "--rgb-range", "-2..1"), /shards: 0,\tup to date: 3\n/);
    writeFileSync(join(folder, "audio", "v5.npy"), encodeNpy(new Uint8Array(6).fill(77), [2, 3]));
    assert.match(await converted(...args, ...patterns, "--rgb-range", "-2..1"), /videos: 4,\tshards: 1,\tup to date: 2\n/);
  });

  const clippedPercent = (count: number): number => {
    let [clipped, values] = [0, 0];
    for (let number = 0; number < count; number++) {
      for (let i = 0; i < 5 * (1 + (number % 4)); i++, values++) if (((number + i) % 9) / 2 - 2 > 1) clipped++;
    }
    return Number(((100 * clipped) / values).toFixed(2));
  };

  test("may be of one modality, and are converted to pickles too", async (t) => {
    const folder = temporaryFolder(t);
    prepare(folder, 3);
    const args = ["--csv", join(folder, "train.csv"), "--rgb", join(folder, "rgb/{id}.npy"), "--out", join(folder, "out")];
    const printed = await converted("--to", "pkl", ...args);
    assert.match(printed, /model: --set MODEL\.video_feature_size=5 --set MODEL\.audio_feature_size=0\n/);
    const videos = await readVideos(join(folder, "out", "train0000.pkl"));
    assert.deepEqual(
      videos.map(({ frames, rgb, audio }) => [frames, rgb.length, audio.length]),
      [
        [1, 5, 0],
        [2, 10, 0],
        [3, 15, 0],
      ],
    );
  });

  test("are found by the exact ID, even if it is special in a replacement string or a spreadsheet", async (t) => {
    const folder = temporaryFolder(t);
    const ids = ["a$b", "a$$b", "a$&b", "a$`b", "a$'b", "$1", "{id}", "=1+1", "+1", "-1", "@a"];
    for (const [number, id] of ids.entries()) writeFileSync(join(folder, `${id}.npy`), encodeNpy(new Uint8Array(3).fill(number), [1, 3]));
    const table = join(folder, "train.csv");
    writeFileSync(table, `id,labels\n${ids.map((id) => `${id},0\n`).join("")}`);
    const features = [{ pattern: join(folder, "{id}.npy"), range: [-2, 2] }, null] as const;
    const plan = await planOwnFeatures(table, { out: folder, format: "tfrecord", maxFrames: 300, features, videosPerShard: 16 });
    const telemetry = await createTelemetry({ logFile: null, stderr: new Capture(false).stream });
    await convertShards(plan, { out: folder, workers: 1, signal: new AbortController().signal, telemetry });
    const videos = await readVideos(join(folder, "train0000.tfrecord"));
    assert.deepEqual(
      videos.map(({ id, rgb }) => [id, rgb[0]]),
      ids.map((id, number) => [id, number]),
    );
  });

  test("cause a warning that names the shard if a read never returns", async (t) => {
    const folder = temporaryFolder(t);
    prepare(folder, 1);
    const [file, out] = [join(folder, "rgb", "v0.npy"), join(folder, "out")];
    const release = await blockFiles(t, [file]);
    mkdirSync(out);
    const features = [{ pattern: join(folder, "rgb/{id}.npy"), range: [-2, 2] }, null] as const;
    const plan = await planOwnFeatures(join(folder, "train.csv"), { out, format: "tfrecord", maxFrames: 300, features, videosPerShard: 4 });
    const stderr = new Capture(false);
    const telemetry = await createTelemetry({ logFile: null, stderr: stderr.stream });
    const converting = convertShards(plan, { out, workers: 1, signal: new AbortController().signal, telemetry, slowMs: 200 });
    const warnings = (): RegExpMatchArray[] => [
      ...stderr.text.matchAll(/WARN: converting (\S+) has not finished for [0-9.]+ s\. Is the disk or network file system responding\?\n/g),
    ];
    while (warnings().length < 2) await sleep(10);
    await release();
    assert.equal((await converting).videos, 1);
    for (const [, shard] of warnings()) assert.equal(shard, join(out, "train0000.tfrecord"));
  });

  test("whose read never returns do not prevent a stop, after the time limit for shards in progress", async (t) => {
    const folder = temporaryFolder(t);
    prepare(folder, 1);
    const out = join(folder, "out");
    await blockFiles(t, [join(folder, "rgb", "v0.npy")]);
    mkdirSync(out);
    const features = [{ pattern: join(folder, "rgb/{id}.npy"), range: [-2, 2] }, null] as const;
    const plan = await planOwnFeatures(join(folder, "train.csv"), { out, format: "tfrecord", maxFrames: 300, features, videosPerShard: 4 });
    const telemetry = await createTelemetry({ logFile: null, stderr: new Capture(false).stream });
    const controller = new AbortController();
    setStopRequest({ signal: controller.signal, exitCode: () => 143 });
    t.after(() => setStopRequest(null));
    const converting = convertShards(plan, { out, workers: 1, signal: controller.signal, telemetry, finishMs: 100 });
    setTimeout(() => controller.abort(), 300);
    const error = await failsWith(converting, "STOPPED");
    assert.deepEqual([error.exitCode, existsSync(join(out, "train0000.tfrecord"))], [143, false]);
  });

  test("that are missing are listed in one error; the error for a mismatch names the file or the video", async (t) => {
    const folder = temporaryFolder(t);
    prepare(folder, 3);
    const table = join(folder, "train.csv");
    const args = ["--to", "tfrecord", "--csv", table, "--rgb", join(folder, "rgb/{id}.npy"), "--out", join(folder, "out")];
    const refusal = async (...more: readonly string[]): Promise<string> => {
      const { exitCode, error } = await convert(...args, ...more);
      assert.equal(exitCode, 1);
      assert.equal(existsSync(join(folder, "out")), false);
      return error;
    };
    const audio = ["--audio", join(folder, "audio/{id}.npy")];
    assert.match(
      await refusal("--audio", join(folder, "sound/{id}.npy")),
      /3 feature files not found: .*sound\/v0\.npy, .*sound\/v2\.npy\./,
    );
    writeFileSync(join(folder, "audio", "v1.npy"), encodeNpy(new Uint8Array(9), [3, 3]));
    assert.match(
      await refusal(...audio),
      /video v1: rgb and audio have different numbers of frames \(expected 2 frames of audio, as of rgb, found 3\)/,
    );
    writeFileSync(join(folder, "audio", "v1.npy"), encodeNpy(new Uint8Array(8), [2, 4]));
    assert.match(
      await refusal(...audio),
      /video v1: the feature size of audio differs from that of the first video \(expected 3 values per frame, found 4\)/,
    );
    writeFileSync(table, "id,labels\n");
    assert.match(await refusal(), /the table has no videos/);
  });
});

test("flags that cannot be combined are rejected", async (t) => {
  const folder = temporaryFolder(t);
  const cases: [readonly string[], RegExp][] = [
    [[], /--filelist, --csv: exactly one of the two is required/],
    [["--filelist", "x", "--csv", "y"], /--filelist, --csv: exactly one of the two is required/],
    [["--filelist", "x", "--rgb", "{id}.npy"], /--rgb: shards already contain features/],
    [["--csv", "x"], /--rgb, --audio: at least one of the two is required/],
    [["--csv", "x", "--audio", "id.npy"], /--audio: the pattern does not contain \{id\}/],
    [
      ["--csv", "x", "--rgb-range", "2..1"],
      /--rgb-range: invalid value \(expected two numbers, the smaller first, such as -2\.\.2, found "2\.\.1"\)/,
    ],
    [["--csv", "x", "--rgb-range", "0..1e-320"], /--rgb-range: invalid value/],
    [
      ["--filelist", "x", "--feature-names", "rgb"],
      /--feature-names: invalid value \(expected two different names, such as rgb,audio, found "rgb"\)/,
    ],
  ];
  for (const [args, message] of cases) {
    const out = join(folder, "out");
    const refused = await convert("--to", "tfrecord", "--out", out, ...args);
    assert.equal(refused.exitCode, 2);
    assert.match(refused.error, message);
    assert.ok(!existsSync(out));
  }
});
