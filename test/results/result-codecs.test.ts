import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { decodeBytes, encodeBytes, normaliseBytes } from "../../src/base/byte-text.js";
import { NextvladError } from "../../src/base/errors.js";
import { formatGeneral } from "../../src/formats/general-format.js";
import { readLabelNames } from "../../src/results/label-names.js";
import { type Prediction, readResults } from "../../src/results/result-codecs.js";
import { writeResults } from "../../src/results/result-writer.js";
import { needsPython } from "../helpers/python.js";
import { collect, failsWith } from "../helpers/shards.js";

const folder = mkdtempSync(join(tmpdir(), "reader-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "x");

function read(content: string | Uint8Array): Promise<Prediction[]> {
  writeFileSync(path, content);
  return collect(readResults(path));
}

const prediction = fc
  .tuple(
    fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.constantFrom("=1+1", "+1", "-1", "@a", "\t=1"),
      fc.uint8Array({ maxLength: 12 }).map(decodeBytes),
      fc.string({ unit: fc.constantFrom("\\", "x", "5", "C", "é", "\udcff", "\udc80"), maxLength: 12 }).map(normaliseBytes),
    ),
    fc.uniqueArray(fc.tuple(fc.nat(2 ** 31 - 1), fc.float({ min: 0, max: 1, noNaN: true })), {
      maxLength: 30,
      selector: ([c]) => c,
    }),
  )
  .map(
    ([id, pairs]): Prediction => ({
      id,
      scores: Float32Array.from(pairs, ([, score]) => score),
      classes: Int32Array.from(pairs, ([c]) => c),
    }),
  );

test("with class names, CSV has a third column, which is not read", async () => {
  const list = join(folder, "names.txt");
  writeFileSync(list, 'Vehicle\nGame, "old"\n');
  const names = await readLabelNames(list, 2);
  const one = { id: "a", scores: Float32Array.from([0.5, 0.25]), classes: Int32Array.from([1, 0]) };
  const { resultFiles } = await writeResults({ path: join(folder, "named"), formats: ["csv"], names }, async (writer) => {
    await writer.write(one);
    return { stopped: false };
  });
  const [file = ""] = resultFiles;
  assert.equal(readFileSync(file, "utf8"), 'VideoId,LabelConfidencePairs,LabelNames\na,1 0.5 0 0.25,"Game, ""old""; Vehicle"\n');
  assert.deepEqual(await collect(readResults(file)), [one]);
  writeFileSync(file, "VideoId,LabelConfidencePairs,LabelNames\na,1 0.5\n");
  await failsWith(collect(readResults(file)), "BAD_FORMAT", { line: 2, expected: "3 fields" });
});

test("results of every format are read as they were written; CSV keeps six digits", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(prediction, { minLength: 1, maxLength: 5 }), async (predictions) => {
      const { resultFiles } = await writeResults({ path, formats: ["pickle", "jsonl", "csv"], names: null }, async (writer) => {
        for (const each of predictions) await writer.write(each);
        return { stopped: false };
      });
      const [pickle, jsonl, csv] = await Promise.all(resultFiles.map((file) => collect(readResults(file))));
      const plain = predictions.map((each) => ({ ...each, scores: each.scores.map((score) => score + 0) }));
      assert.deepEqual(pickle, predictions);
      assert.deepEqual(
        jsonl?.map((each) => ({ ...each, scores: each.scores.map((score) => score + 0) })),
        plain,
      );
      const rounded = predictions.map((each) => ({ ...each, scores: each.scores.map((score) => Number(formatGeneral(score))) }));
      assert.deepEqual(csv, rounded);
    }),
    { numRuns: 100 },
  );
});

test("reads results that Python writes: every pickle protocol, and the output of json and csv", needsPython, async () => {
  const script = `
import csv, json, pickle, sys
folder, results = sys.argv[1], [("vidéo %d" % i, [0.5, 0.1 + i / 4000, 1e-7], [3861, i, 4000]) for i in range(3000)]
for protocol in range(6):
    pickle.dump(results, open(folder + "/%d.pkl" % protocol, "wb"), protocol)
with open(folder + "/p.jsonl", "w") as out:
    for v, scores, classes in results:
        out.write(json.dumps({"predictions": [{"probability": p, "class": c, "more": None} for p, c in zip(scores, classes)], "id": v}, indent=None) + "\\r\\n\\n")
with open(folder + "/p.csv", "w", encoding="utf-8-sig", newline="") as out:
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(["VideoId", "LabelConfidencePairs"])
    for v, scores, classes in results:
        table.writerow([v, " ".join("%d %r" % pair for pair in zip(classes, scores))])`;
  const run = spawnSync("python3", ["-c", script, folder], { encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
  const expected = Array.from({ length: 3000 }, (_, i) => ({
    id: `vidéo ${i}`,
    scores: Float32Array.of(0.5, 0.1 + i / 4000, 1e-7),
    classes: Int32Array.of(3861, i, 4000),
  }));
  for (const name of ["0.pkl", "1.pkl", "2.pkl", "3.pkl", "4.pkl", "5.pkl", "p.jsonl", "p.csv"]) {
    assert.deepEqual(await collect(readResults(join(folder, name))), expected, name);
  }
});

test("reads pickles of Python 2, whose IDs are bytes", async () => {
  const pickle = "(lp0\n(S'train1'\np1\n(lp2\nF0.5\naF0.25\na(lp3\nI7\naI1\natp4\na.";
  assert.deepEqual(await read(pickle), [{ id: "train1", scores: Float32Array.of(0.5, 0.25), classes: Int32Array.of(7, 1) }]);
});

test("IDs that are bytes or have surrogates stay distinct", needsPython, async () => {
  const script = `import pickle, sys; pickle.dump([(b"\\xff", [], []), (b"\\xfe", [], []), ("\\udcfd", [], []), ("\\ud800", [], [])], open(sys.argv[1], "wb"), int(sys.argv[2]))`;
  for (const protocol of ["2", "4"]) {
    assert.equal(spawnSync("python3", ["-c", script, path, protocol], { encoding: "utf8" }).stderr, "");
    const ids = (await collect(readResults(path))).map(({ id }) => Buffer.from(encodeBytes(id)).toString("hex"));
    assert.deepEqual(ids, ["ff", "fe", "fd", "eda080"]);
  }
});

test("invalid files are rejected with the place of the error", async () => {
  const header = "VideoId,LabelConfidencePairs\n";
  const contents =
    'a pickled list of predictions or CSV with the header VideoId,LabelConfidencePairs or JSON lines {"id": ..., "predictions": ...}';
  for (const [content, details] of [
    ["", { file: path, found: "an empty file" }],
    ["Class,Segments\n1,a:0\n", { file: path, expected: contents, found: '"Class,Segments\\n1,a:0\\n"' }],
    [`${header}a,1 0.5\nb,1 0.5 2\n`, { line: 3, expected: "pairs of class and probability", found: "3 numbers" }],
    [`${header}a,1 0.5,\n`, { line: 2, found: 3 }],
    [`${header}a,1  0.5\n`, { line: 2 }],
    [`${header}a,1 0x1\n`, { line: 2, video: "a", expected: "a probability, 0 to 1, for class 1", found: "NaN" }],
    [`${header}a,7 1.5\n`, { file: path, line: 2, video: "a", expected: "a probability, 0 to 1, for class 7", found: "1.5" }],
    [`${header}a,1 0.5\nb,2 0.5 7 -0.5\n`, { line: 3, video: "b", expected: "a probability, 0 to 1, for class 7", found: "-0.5" }],
    [`${header}a,7 1.0000001\n`, { line: 2, found: "1.0000001" }],
    [`${header}a,1 inf\n`, { line: 2, expected: "a probability, 0 to 1, for class 1" }],
    [`${header}a,1.5 1\n`, { line: 2, expected: "a class index", found: "1.5" }],
    [`${header}a,-1 1\n`, { line: 2, expected: "a class index", found: "-1" }],
    [`${header}a,2147483648 1\n`, { line: 2, expected: "a class index" }],
    [`${header}a,1 0.5 1 0.4\n`, { line: 2, expected: "different classes" }],
    ["VideoId,LabelConfidencePairs,More\n", { line: 1, expected: "VideoId,LabelConfidencePairs" }],
    ['{"id": "a", "predictions": [}\n', { line: 1 }],
    ['{"id": 1, "predictions": []}\n', { line: 1 }],
    ['{"id": "\\ud800", "predictions": []}\n', { line: 1 }],
    ['{"id": "a", "predictions": []}\n[]\n', { line: 2 }],
    ['{"id": "a", "predictions": [null]}\n', { line: 1, video: "a" }],
    ['{"id": "a", "predictions": [{"class": "1", "probability": 1}]}\n', { line: 1, found: '"1"' }],
    ['{"id": "a", "predictions": [{"class": 1}]}\n', { line: 1, expected: "a probability, 0 to 1, for class 1", found: "undefined" }],
    ['{"id": "a", "predictions": [{"class": 3, "probability": -1e-30}]}\n', { line: 1, video: "a", found: "-1e-30" }],
    ["(lp0\n(S'a'\n(lF1.5\na(lI7\nata.", { record: 0, video: "a", expected: "a probability, 0 to 1, for class 7", found: "1.5" }],
    // PaddleVideo 1.8's order: (id, classes, probabilities).
    ["(lp0\n(S'a'\n(lI7\na(lF0.5\nata.", { record: 0, video: "a", expected: "a class index", found: "0.5" }],
    ["(lp0\nI7\na.", { record: 0 }],
    ["(lp0\n(S'a'\n(lF0.5\na(lta.", { record: 0, video: "a", found: 0 }],
  ] as const) {
    await failsWith(read(content), "BAD_FORMAT", details);
  }
  // A value that rounds to 1 in float32 is accepted as 1.
  assert.deepEqual((await read(`${header}a,7 1.00000001\n`))[0]?.scores, Float32Array.of(1));
  await failsWith(read("(lp0\ncos\nsystem\n."), "UNSAFE_PICKLE", { file: path });
  await failsWith(collect(readResults(join(folder, "none"))), "FILE_MISSING");
});

test("a list that is nested deeper than the stack allows, in place of a number, is rejected", async () => {
  const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
  for (const entry of [`{"class":${deep},"probability":1}`, `{"class":1,"probability":${deep}}`]) {
    await failsWith(read(`{"id":"a","predictions":[${entry}]}`), "BAD_FORMAT", { line: 1, found: "a list that is nested too deeply" });
  }
});

test("any bytes after a valid start are results or a NextvladError", async () => {
  const starts = [
    "VideoId,LabelConfidencePairs\na,1 0.5\n",
    '{"id":"a","predictions":[{"class":1,"probability":0.5}]}\n',
    "\x80\x02](X\x01\0\0\0a](G?",
    "(lp0\n(",
  ];
  const unit = fc.oneof(
    fc.constantFrom("a", "1", " ", ",", '"', "\n", "{", "}", "[", "]", ":", "(", "t", "e", "l", "."),
    fc.string({ unit: "binary-ascii", minLength: 1, maxLength: 1 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...starts), fc.string({ unit, maxLength: 60 }), async (start, rest) => {
      try {
        await read(Buffer.from(start + rest, "latin1"));
      } catch (error) {
        assert.ok(error instanceof NextvladError && ["BAD_FORMAT", "UNSAFE_PICKLE"].includes(error.code), String(error));
      }
    }),
    { numRuns: 500 },
  );
});
