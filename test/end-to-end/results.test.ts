import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { compiled, runNextvlad, runProgram } from "../helpers/nextvlad.js";
import { runPython } from "../helpers/python.js";
import { CLASSES, learnableVideo, prepareRun, readLog } from "../helpers/runs.js";

const NAMES = ["zero", "one", 'two "2"', "three, 3", "vier", "fünf"];

let folder: string;
const at = (name: string): string => join(folder, name);

async function run(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

let config: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "results-"));
  config = await prepareRun(folder);
  await run("train", "--config", config, "--save-dir", at("run"), "--epoch", "2", "--valid-interval", "0");
  writeFileSync(at("names.txt"), `${NAMES.join("\n")}\n`);
});
after(() => rmSync(folder, { recursive: true, force: true }));

const weights = (): string[] => ["--weights", at("run/NEXTVLAD_epoch0")];

/** Reads the three files of a result with Python. */
async function readWithPython(
  stem: string,
): Promise<{ pickle: unknown[]; csv: unknown[]; csvNames: string[]; jsonl: unknown[]; names: string[] }> {
  const script = `
import csv, json, pickle, sys
stem = sys.argv[1]
p = pickle.load(open(stem + ".pkl", "rb"))
c = list(csv.reader(open(stem + ".csv", encoding="utf8", newline="")))
j = [json.loads(line) for line in open(stem + ".jsonl", encoding="utf8")]
print(json.dumps({
  "pickle": p,
  "csv": [c[0][:2]] + [[row[0], row[1].split(" ")] for row in c[1:]],
  "csvNames": [row[2] for row in c[:2] if len(row) == 3],
  "jsonl": [[v["id"], [x["probability"] for x in v["predictions"]], [x["class"] for x in v["predictions"]]] for v in j],
  "names": [x["name"] for x in j[0]["predictions"]],
}))`;
  const { exitCode, stdout, stderr } = await runProgram("python3", ["-c", script, stem]);
  assert.equal(exitCode, 0, stderr);
  return JSON.parse(stdout);
}

test("infer writes all formats at once, with the same content", async () => {
  const files = ["--format", "pickle,csv,jsonl", "--labels", at("names.txt"), "--save-dir", at("infer")];
  const stdout = await run("infer", ...weights(), ...files);
  const stem = at("infer/NEXTVLAD_infer_result");
  assert.equal(
    stdout,
    `[INFER] infer finished. \tvideos: 40\n${[".pkl", ".csv", ".jsonl"].map((ending) => `results: ${stem}${ending}\n`).join("")}`,
  );
  const { pickle, csv, jsonl, names, csvNames } = await readWithPython(stem);
  assert.deepEqual(csvNames, ["LabelNames", names.join("; ")]);
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
      // Six significant digits: the error is at most half of the sixth.
      assert.ok(Math.abs(Number(pairs[2 * rank + 1]) - score) <= 5.1e-6 * score, `${pairs[2 * rank + 1]} is not ${score}`);
    }
  }
});

test("eval writes the predictions that it evaluates, the same as infer's", async () => {
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

/** Metrics over the full ranking, by their definitions. Input: for each video its labels and the scores of all classes. */
const FULL_RANKING = `
import json, statistics, sys
videos = json.load(sys.stdin)
def measure(c):
    positives = [scores[c] for labels, scores in videos if c in labels]
    negatives = [scores[c] for labels, scores in videos if c not in labels]
    ap = before = 0
    for threshold in sorted({*positives, *negatives}, reverse=True):
        found = sum(p >= threshold for p in positives)
        ap += (found - before) / len(positives) * found / (found + sum(n >= threshold for n in negatives))
        before = found
    return ap, statistics.fmean((p > n) + (p == n) / 2 for p in positives for n in negatives)
aps, aucs = zip(*map(measure, range(len(videos[0][1]))))
mauc = statistics.fmean(aucs)
d_prime = 2 ** 0.5 * statistics.NormalDist().inv_cdf(mauc)
print(json.dumps({"map": statistics.fmean(aps), "mauc": mauc, "d_prime": d_prime, "classes": len(aps), "aps": aps, "aucs": aucs}))`;

interface RankedResult {
  readonly full_ranking: Readonly<Record<string, number | number[]>>;
}

test("eval --full-ranking computes what plain Python does from infer's results, and validation the same", async () => {
  await run("infer", ...weights(), "--save-dir", at("all"), "--format", "jsonl");
  const lines = readFileSync(at("all/NEXTVLAD_infer_result.jsonl"), "utf8").trimEnd().split("\n");
  const videos = lines.map((line) => {
    const { id, predictions } = JSON.parse(line) as { id: string; predictions: { class: number; probability: number }[] };
    const scores = predictions.sort((a, b) => a.class - b.class).map(({ probability }) => probability);
    return [[...learnableVideo(Number(id.slice("video".length))).labels], scores];
  });
  const expected = runPython(FULL_RANKING, [], Buffer.from(JSON.stringify(videos))) as RankedResult["full_ranking"];

  const plain = await run("eval", ...weights(), "--save-dir", at("top"));
  const stdout = await run("eval", ...weights(), "--save-dir", at("full"), "--full-ranking");
  const [top, full] = ["top", "full"].map((name) => JSON.parse(readFileSync(at(`${name}/NEXTVLAD_eval_result.json`), "utf8")));
  const { full_ranking: found, ...rest } = full as RankedResult;
  assert.deepEqual(rest, top);
  assert.deepEqual(Object.keys(found), Object.keys(expected));
  const [foundValues, expectedValues] = [found, expected].map((each) => Object.values(each).flat()) as [number[], number[]];
  // Sums of 40 float64 values in another order.
  for (const [i, value] of foundValues.entries()) assert.ok(Math.abs(value - (expectedValues[i] as number)) < 1e-12, `${i}: ${value}`);
  const [map, mauc, dPrime] = [expected.map, expected.mauc, expected.d_prime].map((value) => (value as number).toFixed(4));
  const added = `full ranking: mAP = ${map}, mAUC = ${mauc}, d-prime = ${dPrime}, over 6 classes with positives\n`;
  const [first = "", ...others] = plain.replaceAll("/top/", "/full/").split(/(?<=\n)/);
  assert.equal(stdout, [first, added, ...others].join(""));
  assert.match(
    readFileSync(at("full/eval.log.jsonl"), "utf8"),
    /"full_ranking":\{"map":[\d.]+,"mauc":[\d.]+,"d_prime":[\d.]+,"classes":6\}/,
  );

  await run("train", "--config", config, "--save-dir", at("validated"), "--epoch", "1", "--full-ranking");
  const written = readdirSync(at("validated")).filter((name) => !name.startsWith("events.out.tfevents."));
  assert.deepEqual(written.sort(), ["NEXTVLAD_epoch0", "best", "config.yaml", "train.log.jsonl"]);
  const [validation] = readLog(at("validated")).filter(({ msg }) => String(msg).startsWith("[VALID]"));
  assert.match(String(validation?.msg), new RegExp(`, full ranking: mAP = ${map}, mAUC = ${mauc}, d-prime = ${dPrime}$`));
  const { aps: _, aucs: __, ...summary } = found;
  // The network and its inputs are the same.
  const ofCurves = ["map", "mauc", "d_prime"].map((name) => validation?.[`full_ranking_${name}`]);
  assert.deepEqual(ofCurves, [summary.map, summary.mauc, summary.d_prime]);
});

test("label names that do not match the model are an error before any video is read", async () => {
  writeFileSync(at("short.txt"), "one\ntwo\n");
  const args = ["infer", ...weights(), "--save-dir", at("bad"), "--format", "jsonl", "--labels", at("short.txt")];
  const { exitCode, error } = await runNextvlad(args);
  assert.equal(exitCode, 1);
  assert.match(error, /short\.txt: the number of names differs from the model's number of classes \(expected 6, found 2\)/);
});

/**
 * Computes the weighted average of a pickle, a CSV file and JSON lines of the same videos in plain code: sums in float64, rounded to float32, equal ones by
 * class, lower first.
 */
const AVERAGE = `
import csv, json, pickle, struct, sys
a, b, c, topk = *sys.argv[1:4], int(sys.argv[4])
float32 = lambda x: struct.unpack("f", struct.pack("f", x))[0]
A = {v: dict(zip(classes, scores)) for v, scores, classes in pickle.load(open(a, "rb"))}
B = {}
for row in csv.DictReader(open(b)):
    words = row["LabelConfidencePairs"].split()
    B[row["VideoId"]] = {int(k): float32(float(p)) for k, p in zip(words[::2], words[1::2])}
C = {v["id"]: {x["class"]: x["probability"] for x in v["predictions"]} for v in map(json.loads, open(c))}
out = []
for v in A:
    average = {k: float32((0.5 * A[v].get(k, 0) + 0.3 * B[v].get(k, 0) + 0.2 * C[v].get(k, 0)) / (0.5 + 0.3 + 0.2)) for k in {*A[v], *B[v], *C[v]}}
    ranked = sorted(average, key=lambda k: (-average[k], k))[:topk]
    out.append([v, [average[k] for k in ranked], ranked])
print(json.dumps(out))`;

test("ensemble averages files of every format, in any order of videos, and evaluates the averages", async () => {
  const [first, second] = [at("run/NEXTVLAD_epoch0"), at("run/NEXTVLAD_epoch1")];
  // The shards in reverse order, and not all classes.
  writeFileSync(at("reversed.list"), "validate1.tfrecord\nvalidate0.tfrecord\n");
  await run("infer", "--weights", first, "--save-dir", at("a"), "--infer-topk", "4");
  await run("infer", "--weights", second, "--save-dir", at("b"), "--format", "csv", "--filelist", at("reversed.list"));
  await run("infer", "--weights", second, "--save-dir", at("c"), "--format", "jsonl", "--infer-topk", "2");
  const files = ["a/NEXTVLAD_infer_result.pkl", "b/NEXTVLAD_infer_result.csv", "c/NEXTVLAD_infer_result.jsonl"].map(at);
  const flags = ["--weights", "0.5,0.3,0.2", "--infer-topk", "5", "--format", "pickle,csv,jsonl", "--labels", at("names.txt")];
  await run("ensemble", ...files, ...flags, "--save-dir", at("ensemble"));
  const { pickle, jsonl } = await readWithPython(at("ensemble/NEXTVLAD_ensemble_result"));
  const expected = await runProgram("python3", ["-c", AVERAGE, ...files, "5"]);
  assert.deepEqual(pickle, JSON.parse(expected.stdout), expected.stderr);
  assert.deepEqual(jsonl, pickle);
});

test("a glob that the shell expanded selects all its shards", async () => {
  const shards = [at("validate0.tfrecord"), at("validate1.tfrecord")];
  const files = ["--format", "csv", "--save-dir", at("glob")];
  assert.match(await run("infer", ...weights(), "--filelist", ...shards, ...files), /videos: 40\n/);
  assert.match(await run("eval", "--filelist", ...shards, ...weights(), "--save-dir", at("glob")), /eval finished/);
  assert.equal((JSON.parse(readFileSync(at("glob/NEXTVLAD_eval_result.json"), "utf8")) as { videos: number }).videos, 40);
  const log = readFileSync(at("glob/eval.log.jsonl"), "utf8");
  assert.ok(log.includes(JSON.stringify(shards)), log);
  assert.match(log, /"hit_at_one":[\d.]+,"perr":[\d.]+,"gap":[\d.]+,"map":[\d.]+,"loss":[\d.]+,"videos":40,.*\[EVAL\] 40 videos, GAP = /);
  assert.match(
    await run("ensemble", "--filelist", ...shards, at("glob/NEXTVLAD_infer_result.csv"), "--config", config, ...files),
    /videos: 40\navg_hit_at_one/,
  );
  assert.match(await run("verify", ...shards, "--config", config), /shards: 2,\t40 records/);
  const converted = await run("convert", "--to", "pkl", "--out", at("converted"), "--filelist", ...shards);
  assert.match(converted, /shards: 2\n[\s\S]*list: \S+\/validate\.list\n$/);
});

test("an ensemble of one file has the same metrics as eval", async () => {
  await run("eval", ...weights(), "--save-dir", at("eval"), "--predictions", "jsonl");
  // The number of classes is not specified, but the results list all of them.
  const sizes = ["--set", "MODEL.video_feature_size=16", "--set", "MODEL.audio_feature_size=8"];
  const args = ["--filelist", at("validate.list"), ...sizes, "--save-dir", at("one")];
  const stdout = await run("ensemble", at("eval/NEXTVLAD_eval_predictions.jsonl"), ...args);
  const { loss: _, ...expected } = JSON.parse(readFileSync(at("eval/NEXTVLAD_eval_result.json"), "utf8"));
  assert.deepEqual(JSON.parse(readFileSync(at("one/NEXTVLAD_ensemble_metrics.json"), "utf8")), expected);
  const [hit, perr, gap, map] = [expected.hit_at_one, expected.perr, expected.gap, expected.map].map((value: number) => value.toFixed(4));
  assert.equal(
    stdout,
    `[ENSEMBLE] ensemble finished. \tvideos: 40\navg_hit_at_one: ${hit},\tavg_perr: ${perr},\tgap: ${gap},\tmap: ${map}\n` +
      `metrics, with the average precision of each class: ${at("one/NEXTVLAD_ensemble_metrics.json")}\n` +
      `results: ${at("one/NEXTVLAD_ensemble_result.pkl")}\n`,
  );
});

test("results replace earlier results, and other files only with --overwrite", async () => {
  mkdirSync(at("foreign"));
  const inputs = [at("infer/NEXTVLAD_infer_result.csv"), at("infer/NEXTVLAD_infer_result.pkl")];
  for (const [name, ...args] of [
    ["NEXTVLAD_infer_result.csv", "infer", ...weights(), "--format", "jsonl,csv"],
    ["NEXTVLAD_infer_result.jsonl", "infer", ...weights(), "--format", "jsonl,csv"],
    ["NEXTVLAD_eval_result.json", "eval", ...weights()],
    ["NEXTVLAD_eval_predictions.pkl", "eval", ...weights(), "--predictions"],
    ["NEXTVLAD_ensemble_metrics.json", "ensemble", ...inputs, "--filelist", at("valid.list")],
    ["NEXTVLAD_ensemble_result.pkl", "ensemble", ...inputs],
  ] as const) {
    const path = at(`foreign/${name}`);
    const [command = "", ...rest] = args;
    const start = () => runNextvlad([command, ...rest, "--save-dir", at("foreign")]);
    // The pickle of an empty list as Python writes it differs from that of nextvlad.
    writeFileSync(path, Buffer.from("80025d71002e", "hex"));
    const { exitCode, error } = await start();
    assert.equal(exitCode, 1, error);
    assert.match(error, new RegExp(`${name}: the file already exists\\. Use another path, or replace it with --overwrite`));
    assert.equal(readFileSync(path, "hex"), "80025d71002e");
    rmSync(path);
    execFileSync("mkfifo", [path]);
    assert.match((await start()).error, new RegExp(`${name}: cannot replace it: it is not a regular file .found a pipe`));
    rmSync(path);
    assert.deepEqual(readdirSync(at("foreign")), []);
  }
  writeFileSync(at("foreign/NEXTVLAD_ensemble_result.pkl"), "mine");
  await run("ensemble", ...inputs, "--save-dir", at("foreign"), "--overwrite");
  await run("ensemble", ...inputs, "--save-dir", at("foreign"));
  // An input does not count as an earlier result.
  const { exitCode, error } = await runNextvlad(["ensemble", at("foreign/NEXTVLAD_ensemble_result.pkl"), "--save-dir", at("foreign")]);
  assert.equal(exitCode, 1);
  assert.match(error, /NEXTVLAD_ensemble_result\.pkl: the file already exists/);
});

test("files that do not match are an error, and nothing is written", async () => {
  const lines = readFileSync(at("eval/NEXTVLAD_eval_predictions.jsonl"), "utf8").trimEnd().split("\n");
  const write = (name: string, kept: readonly string[]): string => {
    writeFileSync(at(name), kept.map((line) => `${line}\n`).join(""));
    return at(name);
  };
  const whole = write("whole.jsonl", lines);
  const short = write("short.jsonl", lines.slice(2));
  const double = write("double.jsonl", [...lines, lines[7] as string]);
  const other = write("other.jsonl", [lines[0]?.replace('"class":', '"class":9') as string, ...lines.slice(1)]);
  const truth = ["--filelist", at("validate.list"), "--config", config];
  const cases: readonly [readonly string[], RegExp][] = [
    [[whole, short], /short\.jsonl does not contain 2 videos of .*whole\.jsonl: video100, video101\. Use results for the same videos/],
    [[short, whole], /short\.jsonl does not contain 2 videos of .*whole\.jsonl: video100, video101\./],
    [[short, ...truth], /short\.jsonl does not contain 2 videos of .*validate\.list: video100, video101\./],
    [[double, whole], /double\.jsonl, video video107: duplicate video/],
    [[whole, double], /double\.jsonl, video video107: duplicate video/],
    [[other, ...truth], /video video100: a predicted class is not one of the model's classes \(expected 0 to 5, found 9\d\)/],
    [[config], /config\.yaml, line 1: invalid predictions of a video/],
    [[at("names.txt")], /names\.txt: not a result file/],
    [[at("none.pkl")], /none\.pkl: file not found/],
  ];
  for (const [args, message] of cases) {
    const { exitCode, error } = await runNextvlad(["ensemble", ...args, "--save-dir", at("never")]);
    assert.match(error, message);
    assert.equal(exitCode, 1);
    assert.equal(existsSync(at("never")), false);
  }
});

test("IDs that are not UTF-8 keep their bytes, from a shard listed through a pipe to averaged results", async () => {
  const ids = ["61ff", "61fe", "61c3a9"].map((hex) => Buffer.from(hex, "hex"));
  const records = ids.map((id, i) => {
    const { rgb, audio, frames, labels } = learnableVideo(i);
    const lists = Object.entries({ rgb, audio }).map(([name, data]) => ({ name, frameBytes: data.length / frames, data }));
    return encodeTfRecord(encodeSequenceExample({ context: { id, labels }, frameLists: lists }));
  });
  const shard = at("odd.tfrecord");
  writeFileSync(shard, Buffer.concat(records));

  assert.match(await run("verify", shard, "--config", config), /3 records, 3 valid videos[\s\S]*\nno problems\n/);
  await run("convert", "--to", "pkl", "--filelist", shard, "--out", at("odd-pkl"));
  // The arrays need numpy; the IDs do not.
  const load = `import json, pickle, sys
class Any:
    def __init__(self, *args): pass
    def __setstate__(self, state): pass
class Unpickler(pickle.Unpickler):
    def find_class(self, module, name): return Any
print(json.dumps([v[b"video"].hex() for v in Unpickler(open(sys.argv[1], "rb"), encoding="bytes").load()]))`;
  assert.deepEqual(
    runPython(load, [at("odd-pkl/odd.pkl")]),
    ids.map((id) => id.toString("hex")),
  );
  await run("convert", "--to", "tfrecord", "--filelist", at("odd-pkl/odd.pkl"), "--out", at("odd-back"));
  assert.deepEqual(readFileSync(at("odd-back/odd.tfrecord")), readFileSync(shard));

  const command = ["infer", ...weights(), "--format", "pickle,csv,jsonl", "--save-dir", at("odd")].map((word) => `'${word}'`).join(" ");
  const piped = `'${process.execPath}' '${compiled("nextvlad.cjs")}' ${command} --filelist <(echo '${shard}')`;
  const { exitCode, stderr } = await runProgram("bash", ["-c", piped]);
  assert.equal(exitCode, 0, stderr);
  const files = [".pkl", ".csv", ".jsonl"].map((ending) => at(`odd/NEXTVLAD_infer_result${ending}`));
  const averaged = await run(
    "ensemble",
    ...files,
    "--filelist",
    shard,
    "--config",
    config,
    "--save-dir",
    at("odd-mean"),
    "--format",
    "csv",
  );
  assert.match(averaged, /videos: 3\n/);
  const rows = readFileSync(at("odd-mean/NEXTVLAD_ensemble_result.csv"), "utf8").trim().split("\n");
  assert.deepEqual(
    rows.slice(1).map((row) => row.split(",")[0]),
    [String.raw`a\xFF`, String.raw`a\xFE`, "aé"],
  );
});

test("a shard is predicted as often as it is listed; empty shards cause a warning, and only empty shards an error", async () => {
  writeFileSync(at("none.tfrecord"), "");
  writeFileSync(at("twice.list"), "validate0.tfrecord\nnone.tfrecord\nvalidate0.tfrecord\n");
  const ended = await runNextvlad(["infer", ...weights(), "--filelist", at("twice.list"), "--save-dir", at("twice")]);
  assert.match(ended.stdout, /videos: 40\n/);
  assert.match(
    ended.stderr,
    /WARN: \S+twice\.list lists a shard more than once: \S+validate0\.tfrecord 2 times; each repetition is read again/,
  );
  assert.match(ended.stderr, /WARN: 1 of 2 shards is empty \(0 records\): \S+none\.tfrecord/);
  for (const command of ["infer", "eval"]) {
    const nothing = await runNextvlad([command, ...weights(), "--filelist", at("none.tfrecord"), "--save-dir", at("nothing")]);
    assert.equal(nothing.exitCode, 1);
    assert.match(nothing.error, /^\S+none\.tfrecord: the shard is empty: there are no records\./);
  }
});
