import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { NextvladError } from "../../src/base/errors.js";
import { INFER_RESULT_NAME, type Prediction, writeInferResult } from "../../src/inference/results.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "results-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a line of Python with the loaded result as `r`, and returns what it prints. */
function python(path: string, line: string): string {
  const run = spawnSync("python3", ["-c", `import json, pickle, sys\nr = pickle.load(open(sys.argv[1], "rb"))\n${line}`, path], {
    encoding: "utf8",
  });
  assert.equal(run.status, 0, run.stderr);
  return run.stdout.trimEnd();
}

const predictions: readonly Prediction[] = [
  { id: "train000001", scores: Float32Array.of(0.1, 0.05), classes: Int32Array.of(3861, 7) },
  { id: "naïve 視頻 🎬 'quoted'", scores: Float32Array.of(1, 2e-45), classes: Int32Array.of(0, 70_000) },
  { id: "", scores: new Float32Array(0), classes: new Int32Array(0) },
];

test("Python reads a list of (id, probabilities, classes) with nothing but pickle", async () => {
  const path = join(folder, "not", "yet", "there", INFER_RESULT_NAME);
  await writeInferResult(path, predictions);
  assert.deepEqual(
    JSON.parse(python(path, "print(json.dumps(r))")),
    predictions.map(({ id, scores, classes }) => [id, [...scores], [...classes]]),
  );
  assert.equal(
    python(path, "print(type(r), set((type(v), len(v)) for v in r), [[type(x) for x in part] for part in r[1][1:]])"),
    "<class 'list'> {(<class 'tuple'>, 3)} [[<class 'float'>, <class 'float'>], [<class 'int'>, <class 'int'>]]",
  );
  assert.equal(python(path, "print(r[0])"), "('train000001', [0.10000000149011612, 0.05000000074505806], [3861, 7])");
});

test("results that come one by one, and none at all", async () => {
  const path = join(folder, INFER_RESULT_NAME);
  async function* many(): AsyncGenerator<Prediction> {
    for (let i = 0; i < 5000; i++) yield { id: `video ${i}`, scores: Float32Array.of(i), classes: Int32Array.of(i) };
  }
  await writeInferResult(path, many());
  assert.equal(python(path, "print(r == [('video %d' % i, [float(i)], [i]) for i in range(5000)])"), "True");
  await writeInferResult(path, []);
  assert.equal(python(path, "print(r)"), "[]");
});

test("a failure on the way leaves the old result whole and nothing beside it", async () => {
  const path = join(folder, INFER_RESULT_NAME);
  writeFileSync(path, "old");
  async function* failing(): AsyncGenerator<Prediction> {
    yield predictions[0] as Prediction;
    throw new NextvladError("CORRUPT_RECORD", "the checksum of the data does not match");
  }
  await assert.rejects(writeInferResult(path, failing()), (error) => error instanceof NextvladError && error.code === "CORRUPT_RECORD");
  assert.deepEqual(readdirSync(folder), [INFER_RESULT_NAME]);
  assert.equal(readFileSync(path, "utf8"), "old");
});

test("a place that cannot be written is named", async () => {
  const blocked = join(folder, "a file");
  writeFileSync(blocked, "");
  chmodSync(blocked, 0o444);
  await assert.rejects(
    writeInferResult(join(blocked, INFER_RESULT_NAME), predictions),
    (error) => error instanceof NextvladError && error.code === "FILE_UNWRITABLE" && error.message.includes(blocked),
  );
});
