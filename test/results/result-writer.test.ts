import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { decodeBytes } from "../../src/base/byte-text.js";
import { NextvladError } from "../../src/base/errors.js";
import { LabelNames } from "../../src/results/label-names.js";
import type { Prediction } from "../../src/results/result-codecs.js";
import { type ResultTarget, writeResults } from "../../src/results/result-writer.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "results-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs lines of Python with `path` and `argument`, and returns what they print. */
function python(path: string, lines: string, argument = ""): string {
  const script = `import csv, json, pickle, sys\n_, path, argument = sys.argv\n${lines}`;
  const run = spawnSync("python3", ["-c", script, path, argument], { encoding: "utf8", env: { ...process.env, PYTHONIOENCODING: "utf8" } });
  assert.equal(run.status, 0, run.stderr);
  return run.stdout.trimEnd();
}

const LOAD_PICKLE = 'r = pickle.load(open(path, "rb"))\n';

const target = (name: string, ...formats: ResultTarget["formats"]): ResultTarget => ({ path: join(folder, name), formats, names: null });

async function write(to: ResultTarget, predictions: Iterable<Prediction> | AsyncIterable<Prediction>): Promise<readonly string[]> {
  const { resultFiles } = await writeResults(to, async (writer) => {
    for await (const prediction of predictions) await writer.write(prediction);
    return { stopped: false };
  });
  return resultFiles;
}

const predictions: readonly Prediction[] = [
  { id: "train000001", scores: Float32Array.of(0.1, 0.05), classes: Int32Array.of(3861, 7) },
  { id: "naïve 視頻 🎬 'quoted', \"twice\"", scores: Float32Array.of(1, 2e-45), classes: Int32Array.of(0, 70_000) },
  { id: "two\r\nlines", scores: Float32Array.of(2 ** -9), classes: Int32Array.of(5) },
  { id: "", scores: new Float32Array(0), classes: new Int32Array(0) },
  // IDs that a spreadsheet would interpret as formulas.
  ...["=1+1", "+1", "-1", "@a", "\t=1"].map((id) => ({ id, scores: Float32Array.of(0.5), classes: Int32Array.of(5) })),
];
const asLists = predictions.map(({ id, scores, classes }) => [id, [...scores], [...classes]]);

test("Python reads a pickled list of (id, probabilities, classes) with only the pickle module", async () => {
  const [path = ""] = await write(target("not/yet/there/NEXTVLAD_infer_result", "pickle"), predictions);
  assert.equal(path, join(folder, "not/yet/there/NEXTVLAD_infer_result.pkl"));
  assert.deepEqual(JSON.parse(python(path, `${LOAD_PICKLE}print(json.dumps(r))`)), asLists);
  assert.equal(
    python(path, `${LOAD_PICKLE}print(type(r), set((type(v), len(v)) for v in r), [[type(x) for x in part] for part in r[1][1:]])`),
    "<class 'list'> {(<class 'tuple'>, 3)} [[<class 'float'>, <class 'float'>], [<class 'int'>, <class 'int'>]]",
  );
  assert.equal(python(path, `${LOAD_PICKLE}print(r[0])`), "('train000001', [0.10000000149011612, 0.05000000074505806], [3861, 7])");
});

test("an ID that is not UTF-8 is bytes in Python's pickle, and escaped in text", async () => {
  const bytes = [Buffer.from("61ff62", "hex"), Buffer.from("61fe62", "hex"), Buffer.from("c3a9", "hex"), Buffer.from("\\xff\\x5C\\y")];
  const odd = bytes.map((id) => ({ id: decodeBytes(id), scores: Float32Array.of(0.5), classes: Int32Array.of(1) }));
  const [pickle = "", csv = "", jsonl = ""] = await write(target("r", "pickle", "csv", "jsonl"), odd);
  const ids = python(pickle, `${LOAD_PICKLE}print([v[0] if isinstance(v[0], bytes) else v[0].encode() for v in r])`);
  assert.equal(ids, String.raw`[b'a\xffb', b'a\xfeb', b'\xc3\xa9', b'\\xff\\x5C\\y']`);
  const escaped = [String.raw`a\xFFb`, String.raw`a\xFEb`, "é", String.raw`\x5Cxff\x5Cx5C\y`];
  const lines = (path: string): string[] => readFileSync(path, "utf8").trim().split("\n");
  assert.deepEqual(
    lines(csv).slice(1),
    escaped.map((id) => `${id},1 0.5`),
  );
  assert.deepEqual(
    lines(jsonl).map((line) => (JSON.parse(line) as { id: string }).id),
    escaped,
  );
});

test("the pickle's bytes do not change between versions", async () => {
  const [path = ""] = await write(target("pinned", "pickle"), predictions.slice(0, 1));
  const id = `580b000000${Buffer.from("train000001").toString("hex")}`;
  const [scores, classes] = ["5d28473fb99999a0000000473fa99999a000000065", "5d284d150f4b0765"];
  assert.equal(readFileSync(path).toString("hex"), `80025d2828${id}${scores}${classes}74652e`);
});

test("Python's csv reads Kaggle's format, with numbers formatted by %g", async () => {
  const [path = ""] = await write(target("r", "csv"), predictions);
  const rows = python(path, 'print(json.dumps(list(csv.reader(open(path, encoding="utf8", newline="")))))');
  const format = 'print(json.dumps([[v, " ".join("%i %g" % pair for pair in zip(c, s))] for v, s, c in json.loads(argument)]))';
  const expected = JSON.parse(python(path, format, JSON.stringify(asLists)));
  assert.deepEqual(JSON.parse(rows), [["VideoId", "LabelConfidencePairs"], ...expected]);
  const text = readFileSync(path, "utf8");
  assert.equal(text.split("\n")[1], "train000001,3861 0.1 7 0.05");
  assert.ok(text.endsWith("\n=1+1,5 0.5\n+1,5 0.5\n-1,5 0.5\n@a,5 0.5\n\t=1,5 0.5\n"), "IDs are written unchanged");
});

test("Python's json reads one line per video, with the exact float32 values, and the names of classes", async () => {
  const [path = ""] = await write(target("r", "jsonl"), predictions);
  const load = 'r = [json.loads(line) for line in open(path, encoding="utf8")]\n';
  const lists = '[[v["id"], [p["probability"] for p in v["predictions"]], [p["class"] for p in v["predictions"]]] for v in r]';
  assert.deepEqual(JSON.parse(python(path, `${load}print(json.dumps(${lists}))`)), asLists);
  const names = new LabelNames(new Map([[7, 'a "b", 視']]));
  await write({ ...target("r", "jsonl"), names }, predictions.slice(0, 1));
  assert.equal(python(path, `${load}print([p["name"] for p in r[0]["predictions"]])`), `[None, 'a "b", 視']`);
});

test("several formats have the same content, for predictions from a stream and for none", async () => {
  async function* many(): AsyncGenerator<Prediction> {
    for (let i = 0; i < 5000; i++) yield { id: `video ${i}`, scores: Float32Array.of(i), classes: Int32Array.of(i) };
  }
  const to = target("many", "pickle", "csv", "jsonl");
  const paths = await write(to, many());
  assert.deepEqual(
    paths,
    [".pkl", ".csv", ".jsonl"].map((extension) => `${to.path}${extension}`),
  );
  assert.deepEqual(readdirSync(folder).sort(), ["many.csv", "many.jsonl", "many.pkl"]);
  const check = `
p = pickle.load(open(path + ".pkl", "rb"))
c = [(v, [float(x.split()[1])], [int(x.split()[0])]) for v, x in list(csv.reader(open(path + ".csv")))[1:]]
j = [(v["id"], [v["predictions"][0]["probability"]], [v["predictions"][0]["class"]]) for v in map(json.loads, open(path + ".jsonl"))]
print(p == c == j == [("video %d" % i, [float(i)], [i]) for i in range(5000)])`;
  assert.equal(python(to.path, check), "True");
  await write(to, []);
  assert.equal(python(`${to.path}.pkl`, `${LOAD_PICKLE}print(r)`), "[]");
  assert.equal(readFileSync(`${to.path}.csv`, "utf8"), "VideoId,LabelConfidencePairs\n");
  assert.equal(readFileSync(`${to.path}.jsonl`, "utf8"), "");
});

test("results are written before the last one is computed", async () => {
  const id = "x".repeat(1000);
  await writeResults(target("r", "csv"), async (writer) => {
    for (let i = 0; i < 1000; i++) await writer.write({ id, scores: Float32Array.of(0), classes: Int32Array.of(0) });
    const [unfinished = ""] = readdirSync(folder);
    assert.match(unfinished, /^\.r\.csv\.unfinished-/);
    assert.ok(statSync(join(folder, unfinished)).size > 900_000);
    return { stopped: false };
  });
});

test("after an error or a stop, the old results are unchanged and there are no other files", async () => {
  const to = target("r", "pickle", "csv");
  for (const extension of [".pkl", ".csv"]) writeFileSync(to.path + extension, "old");
  async function* failing(): AsyncGenerator<Prediction> {
    yield* predictions;
    throw new NextvladError("CORRUPT_RECORD", "the checksum of the data does not match");
  }
  await assert.rejects(write(to, failing()), { code: "CORRUPT_RECORD" });
  const stopped = await writeResults(to, async (writer) => {
    await writer.write(predictions[0] as Prediction);
    return { stopped: true, videos: 1 };
  });
  assert.deepEqual(stopped, { stopped: true, videos: 1, resultFiles: [] });
  const unwritable: Prediction = {
    id: "x",
    scores: new Float32Array(0),
    get classes(): Int32Array {
      throw new NextvladError("BAD_FORMAT", "an encoder fails");
    },
  };
  await assert.rejects(write(to, [unwritable]), { code: "BAD_FORMAT" });
  assert.deepEqual(readdirSync(folder).sort(), ["r.csv", "r.pkl"]);
  for (const extension of [".pkl", ".csv"]) assert.equal(readFileSync(to.path + extension, "utf8"), "old");
});

test("the error for a path that cannot be written names it", async () => {
  const blocked = join(folder, "a file");
  writeFileSync(blocked, "");
  await assert.rejects(
    write(target("a file/r", "csv"), predictions),
    (error) => error instanceof NextvladError && error.code === "FILE_UNWRITABLE" && error.message.includes(blocked),
  );
});
