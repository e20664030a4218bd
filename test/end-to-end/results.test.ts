import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { runNextvlad, runToEnd } from "../commands/nextvlad.js";
import { CLASSES, prepareRun } from "../helpers/runs.js";

const NAMES = ["zero", "one", 'two "2"', "three, 3", "vier", "fünf"];

let folder: string;
const at = (name: string): string => join(folder, name);

async function run(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "results-"));
  const config = await prepareRun(folder);
  await run("train", "--config", config, "--save-dir", at("run"), "--epoch", "1", "--valid-interval", "0");
  writeFileSync(at("names.txt"), `${NAMES.join("\n")}\n`);
});
after(() => rmSync(folder, { recursive: true, force: true }));

const weights = (): string[] => ["--weights", at("run/NEXTVLAD_epoch0")];

/** The three files of a result, as Python reads them. */
async function readWithPython(stem: string): Promise<{ pickle: unknown[]; csv: unknown[]; jsonl: unknown[]; names: string[] }> {
  const script = `
import csv, json, pickle, sys
stem = sys.argv[1]
p = pickle.load(open(stem + ".pkl", "rb"))
c = list(csv.reader(open(stem + ".csv", encoding="utf8", newline="")))
j = [json.loads(line) for line in open(stem + ".jsonl", encoding="utf8")]
print(json.dumps({
  "pickle": p,
  "csv": [c[0]] + [[v, pairs.split(" ")] for v, pairs in c[1:]],
  "jsonl": [[v["id"], [x["probability"] for x in v["predictions"]], [x["class"] for x in v["predictions"]]] for v in j],
  "names": [x["name"] for x in j[0]["predictions"]],
}))`;
  const { exitCode, stdout, stderr } = await runToEnd("python3", ["-c", script, stem]);
  assert.equal(exitCode, 0, stderr);
  return JSON.parse(stdout);
}

test("infer writes all formats at once, and they say the same", async () => {
  const files = ["--format", "pickle,csv,jsonl", "--labels", at("names.txt"), "--save-dir", at("infer")];
  const stdout = await run("infer", ...weights(), ...files);
  const stem = at("infer/NEXTVLAD_infer_result");
  assert.equal(
    stdout,
    `[INFER] infer finished. \tvideos: 40\n${[".pkl", ".csv", ".jsonl"].map((ending) => `results: ${stem}${ending}\n`).join("")}`,
  );
  const { pickle, csv, jsonl, names } = await readWithPython(stem);
  assert.equal(pickle.length, 40);
  assert.deepEqual(jsonl, pickle);
  const [, , firstClasses] = pickle[0] as [string, number[], number[]];
  assert.equal(firstClasses.length, CLASSES);
  assert.deepEqual(
    names,
    firstClasses.map((c) => NAMES[c]),
  );
  assert.deepEqual(csv.shift(), ["VideoId", "LabelConfidencePairs"]);
  for (const [i, row] of csv.entries()) {
    const [id, scores, classes] = pickle[i] as [string, number[], number[]];
    const [csvId, pairs] = row as [string, string[]];
    assert.equal(csvId, id);
    assert.deepEqual(pairs.filter((_, at) => at % 2 === 0).map(Number), classes);
    for (const [rank, score] of scores.entries()) {
      // Six significant digits: at most half of the sixth is lost.
      assert.ok(Math.abs(Number(pairs[2 * rank + 1]) - score) <= 5.1e-6 * score, `${pairs[2 * rank + 1]} is not ${score}`);
    }
  }
});

test("eval writes the predictions that it measures, the same as infer's", async () => {
  await run("infer", ...weights(), "--save-dir", at("plain"));
  const stdout = await run("eval", ...weights(), "--save-dir", at("eval"), "--predictions");
  assert.match(stdout, /\npredictions: .*NEXTVLAD_eval_predictions\.pkl\n$/);
  assert.deepEqual(readFileSync(at("eval/NEXTVLAD_eval_predictions.pkl")), readFileSync(at("plain/NEXTVLAD_infer_result.pkl")));
  const flags = ["--predictions", "csv,jsonl", "--labels", at("names.txt"), "--set", "MODEL.topk=2"];
  assert.match(await run("eval", ...weights(), "--save-dir", at("eval"), ...flags), /predictions: .*\.csv\npredictions: .*\.jsonl\n$/);
  const lines = readFileSync(at("eval/NEXTVLAD_eval_predictions.jsonl"), "utf8").trimEnd().split("\n");
  assert.equal(lines.length, 40);
  assert.equal(JSON.parse(lines[0] as string).predictions.length, 2);
});

test("names that do not fit the model end the run before any video is read", async () => {
  writeFileSync(at("short.txt"), "one\ntwo\n");
  const args = ["infer", ...weights(), "--save-dir", at("bad"), "--format", "jsonl", "--labels", at("short.txt")];
  const { exitCode, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 1);
  assert.match(stderr, /short\.txt: the list has another number of names than the model has classes \(expected 6, found 2\)/);
});
