import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { readLog } from "../helpers/runs.js";
import { goldenData, writeShards } from "../helpers/shards.js";

const CLASSES = 10;
const SHARD = goldenData("segments.tfrecord");

/** The segments of the shard, as numpy reads them (scripts/golden/segments.py). */
const golden = JSON.parse(readFileSync(goldenData("segments.json"), "utf8")) as {
  readonly videos: readonly { readonly id: string; readonly frames: number }[];
  readonly segments: readonly { readonly id: string; readonly rated: readonly number[]; readonly labels: readonly number[] }[];
};

const CONFIG = {
  MODEL: {
    num_classes: CLASSES,
    video_feature_size: 6,
    audio_feature_size: 3,
    cluster_size: 4,
    hidden_size: 16,
    groups: 3,
    gating_reduction: 4,
  },
  TRAIN: { batch_size: 12, learning_rate: 0.02, lr_boundary_examples: 1000, filelist: SHARD, use_gpu: false, shuffle_buffer: 16 },
  VALID: { batch_size: 12, filelist: SHARD },
};

/** The scores of each segment by class, from jsonl results. */
type Scores = ReadonlyMap<string, ReadonlyMap<number, number>>;

function readScores(path: string): Scores {
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  return new Map(
    lines.map((line) => {
      const { id, predictions } = JSON.parse(line) as { id: string; predictions: { class: number; probability: number }[] };
      return [id, new Map(predictions.map((prediction) => [prediction.class, prediction.probability]))];
    }),
  );
}

/** MAP@K as defined by Kaggle: the mean over classes of sum(P(k) rel(k)) / N_c, from the rated segments in each class's list. */
function meanAveragePrecision(lists: ReadonlyMap<number, readonly string[]>): number {
  const rated = (c: number): ReadonlyMap<string, boolean> =>
    new Map(golden.segments.filter((segment) => segment.rated.includes(c)).map(({ id, labels }) => [id, labels.includes(c)]));
  const aps = Array.from({ length: CLASSES }, (_, c) => rated(c)).flatMap((ratings, c) => {
    const positives = [...ratings.values()].filter(Boolean).length;
    if (positives === 0) return [];
    const hits = (lists.get(c) ?? []).filter((id) => ratings.has(id)).map((id) => ratings.get(id) === true);
    return [hits.reduce((sum, hit, k) => sum + (hit ? hits.slice(0, k + 1).filter(Boolean).length / (k + 1) : 0), 0) / positives];
  });
  return aps.reduce((sum, ap) => sum + ap, 0) / aps.length;
}

/** Checks a csv by Kaggle's rules, and returns the list of each class. */
function checkKaggleCsv(text: string, classes: readonly number[]): Map<number, readonly string[]> {
  assert.ok(text.endsWith("\n") && !text.includes('"') && !text.includes("\r"));
  const [header, ...rows] = text.slice(0, -1).split("\n");
  assert.equal(header, "Class,Segments");
  const frames = new Map(golden.videos.map(({ id, frames }) => [id, frames]));
  const lists = rows.map((row): [number, readonly string[]] => {
    const [, c = "", list = ""] = /^(\d+),([^,]+)$/.exec(row) ?? assert.fail(`not a row: ${row}`);
    const segments = list.split(" ");
    assert.ok(classes.includes(Number(c)), `class ${c}`);
    assert.ok(segments.length <= 100_000);
    assert.equal(new Set(segments).size, segments.length, "no segment twice");
    for (const segment of segments) {
      const [, video = "", start = ""] = /^(\w+):(\d+)$/.exec(segment) ?? assert.fail(`not a segment: ${segment}`);
      assert.ok(Number(start) % 5 === 0 && Number(start) < (frames.get(video) ?? 0), segment);
    }
    return [Number(c), segments];
  });
  assert.equal(new Set(rows.map((row) => row.split(",")[0])).size, rows.length, "no class twice");
  return new Map(lists);
}

describe("segments of YouTube-8M 2019", () => {
  let folder: string;
  const at = (...names: string[]): string => join(folder, ...names);
  const run = async (...args: readonly string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await runNextvlad(args);
    assert.equal(exitCode, 0, stderr);
    return stdout;
  };
  const fails = async (message: RegExp, ...args: readonly string[]): Promise<void> => {
    const { exitCode, stderr } = await runNextvlad(args);
    assert.equal(exitCode, 2, stderr);
    assert.match(stderr, message);
  };
  const train = (saveDir: string, ...args: readonly string[]): string[] => [
    "train",
    "--config",
    at("config.yaml"),
    "--segments",
    "--save-dir",
    at(saveDir),
    "--log-interval",
    "1",
    ...args,
  ];
  const reading = (): string[] => ["--weights", at("run/NEXTVLAD_epoch7"), "--filelist", SHARD, "--use-gpu", "False"];

  const lossesOf = (saveDir: string): readonly number[] =>
    readLog(at(saveDir))
      .filter(({ gradient_norm }) => gradient_norm !== undefined)
      .map(({ loss }) => loss as number);

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
    writeFileSync(at("config.yaml"), JSON.stringify(CONFIG));
    await run(...train("run", "--epoch", "8", "--valid-interval", "4"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("training on rated segments fits their ratings, and validates by MAP@K", () => {
    const log = readLog(at("run"));
    const losses = lossesOf("run");
    assert.equal(losses.length, 8 * Math.floor(golden.segments.length / 12));
    assert.ok((losses.at(-1) as number) < 0.7 * (losses[0] as number), `the loss falls: ${losses[0]} to ${losses.at(-1)}`);
    const validations = log.filter(({ msg }) => /^\[VALID\]/.test(String(msg)));
    assert.equal(validations.length, 2);
    for (const { msg } of validations) assert.match(String(msg), /MAP@100000 = 0\.\d{4} over \d+ classes with positives/);
    assert.ok(!log.some(({ msg }) => /have no labels|are not used/.test(String(msg))));
  });

  test("a run that was stopped inside an epoch resumes to the same bytes", async () => {
    await run(...train("parts", "--epoch", "2", "--valid-interval", "0", "--set", "TRAIN.max_iter=6"));
    await run("train", "--resume", "--save-dir", at("parts"), "--epoch", "2", "--valid-interval", "0", "--set", "TRAIN.max_iter=100");
    await run(...train("straight", "--epoch", "2", "--valid-interval", "0"));
    assert.ok(Math.floor(golden.segments.length / 12) < 6, "6 steps end inside the second epoch");
    for (const file of ["weights.safetensors", "optimizer.safetensors"]) {
      assert.ok(readFileSync(at("parts/NEXTVLAD_epoch1", file)).equals(readFileSync(at("straight/NEXTVLAD_epoch1", file))), file);
    }
  });

  test("eval and Kaggle's csv of infer give the same MAP@K, which is that of its definition", async () => {
    const stdout = await run("eval", ...reading(), "--save-dir", at("eval"), "--predictions", "jsonl", "--batch-size", "7");
    const result = JSON.parse(readFileSync(at("eval/NEXTVLAD_eval_result.json"), "utf8")) as {
      videos: number;
      segments: { map_at_k: number; k: number; classes: number };
    };
    const { map_at_k, k, classes } = result.segments;
    assert.equal(result.videos, golden.segments.length);
    assert.equal(k, 100_000);
    assert.match(stdout, new RegExp(`^segments: MAP@100000 = ${map_at_k.toFixed(4)} over ${classes} classes`, "m"));
    const scores = readScores(at("eval/NEXTVLAD_eval_predictions.jsonl"));
    assert.deepEqual(
      [...scores.keys()],
      golden.segments.map(({ id }) => id),
    );
    const rank = (all: Scores, c: number): readonly string[] =>
      [...all]
        .filter(([, ofSegment]) => ofSegment.has(c))
        .toSorted(([, a], [, b]) => (b.get(c) as number) - (a.get(c) as number))
        .map(([id]) => id);
    const lists = new Map(Array.from({ length: CLASSES }, (_, c) => [c, rank(scores, c)]));
    // Both sides are means of sums of some tens of float64 values up to 1.
    assert.ok(Math.abs(map_at_k - meanAveragePrecision(lists)) < 1e-12, `${map_at_k} is not ${meanAveragePrecision(lists)}`);

    await run("infer", ...reading(), "--save-dir", at("infer"), "--format", "csv,jsonl");
    const csv = readFileSync(at("infer/NEXTVLAD_infer_segments.csv"), "utf8");
    const ofAll = checkKaggleCsv(csv, [...lists.keys()]);
    const predicted = readScores(at("infer/NEXTVLAD_infer_result.jsonl"));
    assert.equal(
      predicted.size,
      golden.videos.reduce((sum, { frames }) => sum + Math.ceil(frames / 5), 0),
    );
    for (const c of lists.keys()) assert.deepEqual(ofAll.get(c), rank(predicted, c), `class ${c}`);
    assert.ok(Math.abs(map_at_k - meanAveragePrecision(ofAll)) < 1e-12, `${map_at_k} is not ${meanAveragePrecision(ofAll)}`);
  });

  test("several processes train and evaluate as one does", async () => {
    const two = ["--devices", "2", "--threads", "1"];
    const trained = await spawnNextvlad(train("two", "--epoch", "1", "--valid-interval", "0", ...two));
    assert.equal(trained.exitCode, 0, trained.stderr);
    // The bound for the same computation in another order of sums.
    for (const [step, loss] of lossesOf("two").entries()) {
      const expected = lossesOf("run")[step] as number;
      assert.ok(Math.abs(loss / expected - 1) < 1e-5, `step ${step}: ${loss}, one process ${expected}`);
    }
    const results: string[] = [];
    for (const [saveDir, devices] of [
      ["eval-one", ["--threads", "1"]],
      ["eval-two", two],
    ] as const) {
      const evaluated = await spawnNextvlad(["eval", ...reading(), "--save-dir", at(saveDir), "--batch-size", "4", ...devices]);
      assert.equal(evaluated.exitCode, 0, evaluated.stderr);
      results.push(readFileSync(at(saveDir, "NEXTVLAD_eval_result.json"), "utf8"));
    }
    assert.equal(results[1], results[0]);
  });

  test("infer predicts the given classes only, the most probable of each segment", async () => {
    writeFileSync(at("classes.csv"), "Index\n7\n2\n5\n");
    const args = [...reading(), "--segment-classes", at("classes.csv"), "--infer-topk", "2", "--format", "jsonl", "--save-dir", at("few")];
    const { files, segment_file } = JSON.parse(await run("infer", ...args, "--json")) as { files: string[]; segment_file: string };
    assert.deepEqual([...files, segment_file], [at("few/NEXTVLAD_infer_result.jsonl"), at("few/NEXTVLAD_infer_segments.csv")]);
    const lists = checkKaggleCsv(readFileSync(segment_file, "utf8"), [2, 5, 7]);
    const all = readScores(at("infer/NEXTVLAD_infer_result.jsonl"));
    for (const [id, scores] of readScores(files[0] as string)) {
      const best = [2, 5, 7].toSorted((a, b) => (all.get(id)?.get(b) as number) - (all.get(id)?.get(a) as number)).slice(0, 2);
      assert.deepEqual([...scores.keys()], best, id);
    }
    assert.deepEqual([...lists.keys()], [...lists.keys()].toSorted());
    assert.ok(readdirSync(at("few")).every((name) => !name.endsWith(".partial")));
  });

  test("options and shards that do not fit are errors that say what to do", async () => {
    for (const [setting, message] of [
      ["TRAIN.mixup=1", /ratings of two segments.*TRAIN\.mixup/s],
      ["TRAIN.class_balance=True", /TRAIN\.class_balance/],
      ["TRAIN.lr_schedule=cosine", /TRAIN\.lr_schedule/],
      ["TRAIN.teacher=a.pkl", /TRAIN\.teacher/],
    ] as const)
      await fails(message, ...train("other", "--set", setting));
    await fails(/--full-ranking/, ...train("other", "--full-ranking"));
    await fails(/--full-ranking/, "eval", ...reading(), "--full-ranking", "--save-dir", at("other"));
    await fails(/needs segments/, "infer", ...reading(), "--set", "MODEL.segments=False", "--segment-classes", at("classes.csv"));
    const { shards } = await writeShards(folder, [3]);
    const unrated = ["--weights", at("run/NEXTVLAD_epoch7"), "--filelist", shards[0] as string, "--save-dir", at("other")];
    const { exitCode, stderr } = await runNextvlad(["eval", ...unrated]);
    assert.equal(exitCode, 1);
    assert.match(stderr, /no rated segments \(segment_labels\).*omit --segments/s);
  });
});
