import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createRandom } from "../../src/base/random.js";
import { writeAudioSet } from "../helpers/audioset.js";
import { temporaryFolder } from "../helpers/files.js";
import { encodeNpy } from "../helpers/npy.js";
import { goldenData } from "../helpers/shards.js";
import { codeBlocks } from "./pages.js";
import { runBlock } from "./shell.js";

const PAGE = "docs/own-features.md";

/** Returns the page's code blocks in a language, in order. */
function blocks(language: string): string[] {
  return codeBlocks(PAGE)
    .filter((block) => block.language === language)
    .map(({ code }) => code);
}

const CLASSES = 12;

/** Writes the files that the page creates with numpy, without numpy and with other values. */
function makeFeatures(folder: string): void {
  const random = createRandom(1, "digits");
  // Box-Muller transform.
  const uniform = (): number => (1 + random.below(2 ** 24)) / 2 ** 24;
  const normal = (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const centres = [64, 32].map((size) => Array.from({ length: CLASSES }, () => Float32Array.from({ length: size }, normal)));
  for (const kind of ["rgb", "audio"]) mkdirSync(join(folder, "features", kind), { recursive: true });
  for (const [split, clips] of [
    ["train", 240],
    ["validate", 60],
  ] as const) {
    const lines = ["id,labels"];
    for (let number = 0; number < clips; number++) {
      const name = `${split}${String(number).padStart(4, "0")}`;
      const labels = random.shuffle(Array.from({ length: CLASSES }, (_, label) => label)).slice(0, 1 + (number % 2));
      const shown = Array.from({ length: 5 + random.below(15) }, () => labels[random.below(labels.length)] as number);
      for (const [i, kind] of ["rgb", "audio"].entries()) {
        const rows = shown.map((label) => Array.from(centres[i]?.[label] as Float32Array, (value) => value + 0.5 * normal()));
        const values = Float32Array.from(rows.flat());
        writeFileSync(join(folder, "features", kind, `${name}.npy`), encodeNpy(values, [shown.length, values.length / shown.length]));
      }
      lines.push(`${name},${labels.join(" ")}`);
    }
    writeFileSync(join(folder, `${split}.csv`), `${lines.join("\n")}\n`);
  }
}

const python = process.env.NEXTVLAD_PYTHON ?? "python3";
const hasNumpy = spawnSync(python, ["-c", "import numpy"]).status === 0;

test("the page's numpy writes the files that its commands need", {
  skip: !hasNumpy && `${python} has no numpy: set NEXTVLAD_PYTHON to one that has`,
}, async (t) => {
  const [theirs, ours] = [temporaryFolder(t), temporaryFolder(t)];
  const [program] = blocks("python");
  const ended = spawnSync(python, ["-c", program as string], { cwd: theirs, encoding: "utf8" });
  assert.equal(ended.status, 0, ended.stderr);
  makeFeatures(ours);
  const filesOf = (folder: string) => readdirSync(folder, { recursive: true }).sort();
  assert.deepEqual(filesOf(theirs), filesOf(ours));
  await runBlock(blocks("sh")[0] as string, theirs);
});

test("the page's commands do what it says: 12 own classes, one feature alone, AudioSet, pickles", async (t) => {
  const folder = temporaryFolder(t);
  makeFeatures(folder);
  writeAudioSet(join(folder, "audioset"));
  writeFileSync(join(folder, "own.yaml"), blocks("yaml")[0] as string);
  const { examples } = JSON.parse(readFileSync(goldenData("float_features.json"), "utf8")) as { examples: Record<string, string> };
  writeFileSync(join(folder, "features.pb"), Buffer.from(examples["of docs/own-features.md's sizes"] as string, "base64"));
  const [convert, train, alone, audioset, mediapipe, pickles, ...more] = blocks("sh") as [string, string, string, string, string, string];
  assert.deepEqual(more, []);

  const converted = await runBlock(convert, folder);
  assert.match(converted, /model: --set MODEL\.video_feature_size=64 --set MODEL\.audio_feature_size=32\nlist: shards\/train\.list\n/);
  const shares = Array.from(converted.matchAll(/([\d.]+) % of them outside/g), ([, share]) => Number(share));
  assert.ok(shares.length === 4 && shares.every((share) => share < 1), `little is cut: ${shares}`);

  await runBlock(train, folder);
  const result = JSON.parse(readFileSync(join(folder, "results", "NEXTVLAD_eval_result.json"), "utf8"));
  assert.equal(result.videos, 60);
  assert.ok(result.hit_at_one > 0.95 && result.gap > 0.9, `Hit@1 ${result.hit_at_one}, GAP ${result.gap}`);
  assert.ok(readFileSync(join(folder, "results", "NEXTVLAD_infer_result.pkl")).length > 0);

  const single = await runBlock(alone, folder);
  assert.equal(Array.from(single.matchAll(/validation GAP 0\.[5-9]|validation GAP 1/g)).length, 2, single);
  assert.match(await runBlock(audioset, folder), /train finished\. \tepochs: 2,\tsteps: 8/);

  assert.match(await runBlock(mediapipe, folder), /model: --set MODEL\.video_feature_size=64 --set MODEL\.audio_feature_size=32\n/);
  const [prediction] = readFileSync(join(folder, "results-mediapipe", "NEXTVLAD_infer_result.jsonl"), "utf8").split("\n");
  const { id, predictions } = JSON.parse(prediction as string);
  assert.deepEqual([id, predictions.length], ["cat", 3]);

  await runBlock(pickles, folder);
  const shards = readdirSync(join(folder, "shards")).filter((name) => /^train.*tfrecord$/.test(name));
  for (const name of shards) assert.deepEqual(readFileSync(join(folder, "shards-again", name)), readFileSync(join(folder, "shards", name)));
});
