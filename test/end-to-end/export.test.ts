import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parameterTable } from "../../src/model/network.js";
import { temporaryFolder } from "../helpers/files.js";
import { loadGolden } from "../helpers/golden.js";
import { writeGoldenSnapshot } from "../helpers/golden-snapshot.js";
import { compiled, runNextvlad, runProgram, spawnNextvlad } from "../helpers/nextvlad.js";
import { needsPython, runPython } from "../helpers/python.js";

/**
 * Prints the arrays of a file or directory: name, dtype, shape, SHA-1 of the values. usage: FORMAT PATH. Reads each format as its own library does, with only
 * the standard library.
 */
const LIST_ARRAYS = `
import ast, codecs, hashlib, json, os, pickle, struct, sys, zipfile

found = {}

def keep(name, dtype, shape, data):
    assert name not in found
    found[name] = [dtype, list(shape), hashlib.sha1(data).hexdigest()]

def read_safetensors(path):
    raw = open(path, "rb").read()
    length, = struct.unpack("<Q", raw[:8])
    for name, entry in json.loads(raw[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            keep(name, {"F32": "f4"}[entry["dtype"]], entry["shape"], raw[8 + length + begin:8 + length + end])

def read_npz(path):
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            raw = archive.read(name)
            length, = struct.unpack("<H", raw[8:10])
            header = ast.literal_eval(raw[10:10 + length].decode())
            keep(name[:-4], header["descr"][1:], header["shape"], raw[10 + length:])

def read_varint(raw, at):
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at

def read_vars(path):
    for name in os.listdir(path):
        raw = open(os.path.join(path, name), "rb").read()
        assert struct.unpack("<IQI", raw[:16]) == (0, 0, 0)
        end = 20 + struct.unpack("<i", raw[16:20])[0]
        at, values = 20, {1: [], 2: []}
        while at < end:
            tag, at = read_varint(raw, at)
            value, at = read_varint(raw, at)
            values[tag >> 3].append(value)
        keep(name, {5: "f4", 3: "i8"}[values[1][0]], values[2], raw[end:])

class Array:
    def __setstate__(self, state):
        self.state = state

class Dtype:
    def __init__(self, code, align, copy):
        self.code = code

    def __setstate__(self, state):
        assert state[1] == "<"

class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return {
            "numpy.core.multiarray._reconstruct": lambda *arguments: Array(),
            "numpy.ndarray": Array, "numpy.dtype": Dtype, "_codecs.encode": codecs.encode,
        }[module + "." + name]

def read_pickle(path):
    for name, array in Unpickler(open(path, "rb")).load().items():
        version, shape, dtype, is_fortran, data = array.state
        assert not is_fortran
        keep(name, dtype.code, shape, data)

globals()["read_" + sys.argv[1]](sys.argv[2])
json.dump(found, sys.stdout)
`;

type Arrays = Readonly<Record<string, readonly [dtype: string, shape: readonly number[], sha1: string]>>;
const listArrays = (format: string, path: string): Arrays => runPython(LIST_ARRAYS, [format, path]) as Arrays;

const golden = loadGolden("small");
const table = parameterTable(golden.sizes);
const trained = table.filter((parameter) => parameter.trained).map(({ name }) => name);

async function exportAs(snapshot: string, format: string, out: string, ...more: string[]) {
  return runNextvlad(["export", "--weights", snapshot, "--format", format, "--out", out, ...more]);
}

async function exportWell(snapshot: string, format: string, out: string, ...more: string[]): Promise<string[]> {
  const ended = await exportAs(snapshot, format, out, ...more);
  assert.equal(ended.exitCode, 0, ended.stderr);
  return ended.stdout.trimEnd().split("\n");
}

describe("nextvlad export", { concurrency: 2 }, () => {
  test("writes the weights unchanged as safetensors, npz, pdparams and paddle-vars", needsPython, async (context) => {
    const folder = temporaryFolder(context);
    const snapshot = join(folder, "snapshot");
    await writeGoldenSnapshot(snapshot, golden, { step: 3 });
    const weights = listArrays("safetensors", join(snapshot, "weights.safetensors"));
    const moments = listArrays("safetensors", join(snapshot, "optimizer.safetensors"));
    assert.deepEqual(Object.keys(weights).sort(), table.map(({ name }) => name).sort());
    const at = (name: string): string => join(folder, name);

    assert.deepEqual(await exportWell(snapshot, "safetensors", at("w.safetensors")), [at("w.safetensors")]);
    assert.deepEqual(listArrays("safetensors", at("w.safetensors")), weights);
    assert.deepEqual(await exportWell(snapshot, "npz", at("w.npz")), [at("w.npz")]);
    assert.deepEqual(listArrays("npz", at("w.npz")), weights);

    const files = [at("paddle/W.pdparams"), at("paddle/W.pdopt")];
    assert.deepEqual(await exportWell(snapshot, "pdparams", at("paddle/W")), files);
    assert.deepEqual(await exportWell(snapshot, "pdparams", at("paddle/W.pdparams"), "--overwrite"), files);
    assert.deepEqual(listArrays("pickle", files[0] as string), weights);
    const state = listArrays("pickle", files[1] as string);
    const extra = trained.flatMap((name) => [`${name}_beta1_pow_acc_0`, `${name}_beta2_pow_acc_0`]);
    const names = [...Object.keys(moments), ...extra, "learning_rate", "@LR_DECAY_COUNTER@"];
    assert.deepEqual(Object.keys(state).sort(), names.sort());
    for (const [name, moment] of Object.entries(moments)) assert.deepEqual(state[name], moment, name);

    assert.deepEqual(await exportWell(snapshot, "paddle-vars", at("vars")), [at("vars")]);
    assert.deepEqual(listArrays("vars", at("vars")), { ...weights, ...state });
  });

  test(
    "reads its own output and every other format of weights, with optimizer state and without a config",
    needsPython,
    async (context) => {
      const folder = temporaryFolder(context);
      const at = (name: string): string => join(folder, name);
      await writeGoldenSnapshot(at("snapshot"), golden, { step: 3 });
      const weights = listArrays("safetensors", join(at("snapshot"), "weights.safetensors"));
      await exportWell(at("snapshot"), "pdparams", at("A"));
      await exportWell(
        at("A"),
        "paddle-vars",
        at("vars"),
        "--set",
        "TRAIN.learning_rate=0.0002",
        "--set",
        "TRAIN.lr_boundary_examples=320",
      );
      const state = listArrays("pickle", at("A.pdopt"));
      const { learning_rate: rate, ...rest } = listArrays("vars", at("vars"));
      assert.ok(rate !== undefined);
      const { learning_rate: _, ...expected } = state;
      assert.deepEqual(rest, { ...weights, ...expected });

      await exportWell(at("vars"), "npz", at("W.npz"));
      assert.deepEqual(listArrays("npz", at("W.npz")), weights);
      await exportWell(at("W.npz"), "safetensors", at("W.safetensors"));
      assert.deepEqual(listArrays("safetensors", at("W.safetensors")), weights);
      await exportWell(at("W.safetensors"), "pdparams", at("B"));
      assert.deepEqual(listArrays("pickle", at("B.pdparams")), weights);
      assert.ok(!existsSync(at("B.pdopt")));
      const ended = await exportAs(at("W.safetensors"), "onnx", at("W.onnx"));
      assert.equal(ended.exitCode, 0, ended.stderr);
      assert.match(ended.stderr, /using drop_rate 0\.5, which weights do not contain/);
    },
  );

  test("reports weights without optimizer state, and leaves no optimizer state of other weights beside them", async (context) => {
    const folder = temporaryFolder(context);
    const snapshot = join(folder, "snapshot");
    await writeGoldenSnapshot(snapshot, golden);
    rmSync(join(snapshot, "optimizer.safetensors"));
    const ended = await exportAs(snapshot, "pdparams", join(folder, "W"));
    assert.deepEqual(
      [ended.exitCode, ended.stdout, ended.stderr],
      [0, `${join(folder, "W.pdparams")}\n`, `weights: ${snapshot}, a snapshot\nthe weights have no optimizer state, so none is written\n`],
    );
    await exportWell(snapshot, "paddle-vars", join(folder, "vars"));
    assert.deepEqual(readdirSync(join(folder, "vars")).sort(), table.map(({ name }) => name).sort());

    writeFileSync(join(folder, "Other.pdopt"), "");
    const refused = await exportAs(snapshot, "pdparams", join(folder, "Other"));
    assert.equal(refused.exitCode, 1);
    assert.match(refused.error, /Other\.pdopt: the file already exists: it is the optimizer state of other weights/);
    assert.ok(!existsSync(join(folder, "Other.pdparams")));
  });

  test("replaces files only with --overwrite; writes to a pipe as to standard output", async (context) => {
    const folder = temporaryFolder(context);
    const at = (name: string): string => join(folder, name);
    await writeGoldenSnapshot(at("snapshot"), golden);
    const [npz = ""] = await exportWell(at("snapshot"), "npz", at("w.npz"));
    const expected = readFileSync(npz);
    for (const [format, out, file] of [
      ["npz", "w.npz", "w.npz"],
      ["pdparams", "W", "W.pdparams"],
      ["pdparams", "W", "W.pdopt"],
    ] as const) {
      writeFileSync(at(file), "the user's");
      const refused = await exportAs(at("snapshot"), format, at(out));
      assert.equal(refused.exitCode, 1);
      assert.match(refused.error, /the file already exists\. Use another path, or replace it with --overwrite/);
      assert.equal(readFileSync(at(file), "utf8"), "the user's");
      await exportWell(at("snapshot"), format, at(out), "--overwrite");
      rmSync(at(file));
    }
    execFileSync("mkfifo", [at("pipe")]);
    const read = runProgram("sh", ["-c", 'cat "$1" > "$2"', "sh", at("pipe"), at("read.npz")]);
    const ended = await exportAs(at("snapshot"), "npz", at("pipe"));
    assert.deepEqual([ended.exitCode, ended.stdout], [0, ""], ended.stderr);
    assert.match(ended.stderr, /written to \S+pipe\n$/);
    await read;
    assert.ok(readFileSync(at("read.npz")).equals(expected));
    const words = ["export", "--weights", at("snapshot"), "--format", "npz", "--out", "/dev/stdout"];
    const shell = 'node="$1"; shift; out="$1"; shift; "$node" "$@" | cat > "$out"';
    await runProgram("sh", ["-c", shell, "sh", process.execPath, at("stdout.npz"), compiled("nextvlad.cjs"), ...words]);
    assert.ok(readFileSync(at("stdout.npz")).equals(expected));
    const two = await exportAs(at("snapshot"), "pdparams", at("pipe"));
    assert.match(two.error, /pdparams writes up to two files, not to a pipe or device/);
    assert.ok(statSync(at("pipe")).isFIFO());
  });

  test("does not write a directory of variables over an existing file or folder", async (context) => {
    const folder = temporaryFolder(context);
    const snapshot = join(folder, "snapshot");
    await writeGoldenSnapshot(snapshot, golden);
    writeFileSync(join(folder, "file"), "kept");
    for (const [out, words] of [
      [snapshot, /directory not empty/],
      [join(folder, "file"), /not a directory/],
    ] as const) {
      const ended = await exportAs(snapshot, "paddle-vars", out);
      assert.deepEqual([ended.exitCode, ended.stdout], [1, ""]);
      assert.match(ended.error, words);
    }
    assert.deepEqual(readdirSync(folder).sort(), ["file", "snapshot"]);
    mkdirSync(join(folder, "empty"));
    await exportWell(snapshot, "paddle-vars", join(folder, "empty"));
  });

  test("reports weights that do not match the config, and writes nothing", async (context) => {
    const folder = temporaryFolder(context);
    const snapshot = join(folder, "snapshot");
    await writeGoldenSnapshot(snapshot, golden);
    const out = join(folder, "w.onnx");
    const ended = await exportAs(snapshot, "onnx", out, "--set", "MODEL.num_classes=12");
    assert.equal(ended.exitCode, 1);
    assert.match(ended.error, /2 arrays do not match the model: logits_clf_weights .*; logits_clf_bias is \[50\], expected \[12\]/);
    assert.deepEqual(readdirSync(folder), ["snapshot"]);
  });

  test("makes drop_rate a constant of the ONNX graph and reports it; a safetensors file includes the config", async (context) => {
    const folder = temporaryFolder(context);
    const snapshot = join(folder, "snapshot");
    await writeGoldenSnapshot(snapshot, golden, { dropRate: 0.3 });
    const exported = join(folder, "w.safetensors");
    await exportWell(snapshot, "safetensors", exported, "--set", "MODEL.max_frames=7");
    const again = await exportAs(exported, "onnx", join(folder, "again.onnx"));
    assert.match(again.stderr, /^weights: \S+, a safetensors file\ndrop_rate 0.3 and max_frames 7 are constants of the graph$/m);
    const bytes = readFileSync(exported);
    bytes.write("drop_rate: X.3", bytes.indexOf("drop_rate: 0.3"));
    writeFileSync(exported, bytes);
    const bad = await exportAs(exported, "onnx", join(folder, "again.onnx"));
    assert.equal(bad.exitCode, 2);
    assert.match(bad.error, /w\.safetensors, MODEL\.drop_rate: invalid value/);
    // Weights without a config: the values of --set are stored.
    const bare = join(folder, "bare.npz");
    await exportWell(snapshot, "npz", bare);
    await exportWell(bare, "safetensors", exported, "--overwrite", "--set", "MODEL.drop_rate=0.2");
    assert.match((await exportAs(exported, "onnx", join(folder, "third.onnx"))).stderr, /^drop_rate 0\.2 and max_frames 300 are/m);
    const run = (name: string, ...more: string[]) => exportAs(snapshot, "onnx", join(folder, name), ...more);
    assert.match((await run("own.onnx")).stderr, /^drop_rate 0.3 and max_frames 300 are constants of the graph$/m);
    assert.match(
      (await run("set.onnx", "--set", "MODEL.drop_rate=0")).stderr,
      /^drop_rate 0 and max_frames 300 are constants of the graph$/m,
    );

    const { InferenceSession, Tensor } = await import("onnxruntime-node");
    const { rgb, audio, frameCounts } = golden.batch;
    const feeds = {
      rgb: new Tensor("uint8", rgb, [rgb.length / 1024, 1024]),
      audio: new Tensor("uint8", audio, [audio.length / 128, 128]),
      frame_counts: new Tensor("int64", BigInt64Array.from(frameCounts, BigInt), [frameCounts.length]),
    };
    for (const [name, vector] of [
      ["own.onnx", "eval_predictions_drop0.3"],
      ["set.onnx", "eval_predictions"],
    ] as const) {
      const session = await InferenceSession.create(join(folder, name));
      const { probabilities } = await session.run(feeds);
      const theirs = golden.vectors.get(vector)?.values as Float32Array;
      const found = probabilities?.data as Float32Array;
      // Both compute in float32, but in different orders.
      for (const [i, value] of theirs.entries()) assert.ok(Math.abs(value - (found[i] as number)) < 1e-5, `${name}, value ${i}`);
    }
  });

  test("rejects an unknown format", async () => {
    const ended = await exportAs("snapshot", "hdf5", "out");
    assert.equal(ended.exitCode, 2);
    assert.match(ended.error, /--format: invalid value .expected pdparams, paddle-vars, safetensors, npz or onnx, found "hdf5"/);
  });

  test("does not load TensorFlow", async (context) => {
    const folder = temporaryFolder(context);
    const snapshot = join(folder, "snapshot");
    await writeGoldenSnapshot(snapshot, golden);
    const coverage = join(folder, "coverage");
    const ended = await spawnNextvlad(["export", "--weights", snapshot, "--format", "onnx", "--out", join(folder, "w.onnx")], {
      env: { ...process.env, NODE_V8_COVERAGE: coverage },
    });
    assert.equal(ended.exitCode, 0, ended.stderr);
    const loaded = readdirSync(coverage).map((name) => readFileSync(join(coverage, name), "utf8"));
    assert.ok(loaded.some((text) => text.includes("/src/checkpoints/export.js")));
    assert.ok(!loaded.some((text) => text.includes("node_modules/@tensorflow")));
  });
});
