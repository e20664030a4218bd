import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { floatsOf, type WeightSource } from "../../src/checkpoints/weight-source.js";
import { encodeSafetensors } from "../../src/formats/tensors/safetensors.js";
import { temporaryFolder } from "../helpers/files.js";
import { goldenFolder } from "../helpers/golden.js";
import { needsPython, runPython } from "../helpers/python.js";
import { failsWith } from "../helpers/shards.js";

interface Expected {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly row_major: string;
}

const paddle = fileURLToPath(goldenFolder("formats/paddle"));
const expected = JSON.parse(readFileSync(join(paddle, "expected.json"), "utf8")) as Readonly<Record<string, Expected>>;
const WEIGHTS_ONLY = ["w", "b", "batch_norm_0.w_0", "batch_norm_0.b_0", "batch_norm_0.w_1", "batch_norm_0.w_2"];
const hasTar = spawnSync("tar", ["--version"]).status === 0;

/** Everything that a source has, read in one pass. */
async function contentOf(source: WeightSource): Promise<Record<string, Expected>> {
  const content: Record<string, Expected> = {};
  for await (const { name, dtype, shape, bytes } of source.read(new Set(source.entries.keys()))) {
    assert.deepEqual(source.entries.get(name)?.shape, shape);
    assert.equal(source.entries.get(name)?.dtype, dtype);
    content[name] = { dtype, shape, row_major: Buffer.from(bytes).toString("base64") };
  }
  return content;
}

async function holds(path: string, optimizer: boolean, form: RegExp, names?: readonly string[]): Promise<void> {
  const source = await openWeights(path, { optimizer });
  assert.match(source.form, form);
  assert.equal(source.snapshot, null);
  const wanted = names ?? Object.keys(expected);
  assert.deepEqual(await contentOf(source), Object.fromEntries(wanted.map((name) => [name, expected[name]])));
  assert.deepEqual(await contentOf(source), Object.fromEntries(wanted.map((name) => [name, expected[name]])), "and again");
  const some = new Set([wanted[1] as string, "nothing of that name"]);
  for await (const { name } of source.read(some)) assert.equal(name, wanted[1]);
  await source.close();
}

describe("the format of Paddle's files is detected from their content", () => {
  test("a directory of variables: other files are skipped, links are followed", async (t) => {
    await holds(join(paddle, "dir"), false, /directory of Paddle variables/);
    const folder = join(temporaryFolder(t), "v");
    cpSync(join(paddle, "dir"), folder, { recursive: true });
    writeFileSync(join(folder, "__model__"), "a program");
    mkdirSync(join(folder, "train_label"));
    renameSync(join(folder, "w"), join(folder, "..", "elsewhere"));
    symlinkSync(join(folder, "..", "elsewhere"), join(folder, "w"));
    await holds(folder, true, /directory of Paddle variables/);
  });

  test("a directory of variables one level down, as in the published tar", async (t) => {
    const folder = temporaryFolder(t);
    cpSync(join(paddle, "dir"), join(folder, "nextvlad_youtube8m"), { recursive: true });
    await holds(folder, false, /directory of Paddle variables/);
  });

  for (const [name, flags] of [
    ["x.tar", "cf"],
    ["x.tar.gz", "czf"],
    ["weights", "czf"],
  ] as const) {
    test(`a tar called ${name}`, { skip: !hasTar && "tar is missing" }, async (t) => {
      const path = join(temporaryFolder(t), name);
      assert.equal(spawnSync("tar", [flags, path, "-C", paddle, "dir"]).status, 0);
      await holds(path, true, /Paddle variables in a tar/);
    });
  }

  for (const protocol of [2, 3, 4]) {
    test(`a .pdparams of protocol ${protocol}, plain and gzipped, also by its prefix, with its .pdopt`, async (t) => {
      const folder = temporaryFolder(t);
      const [params, opt] = [
        readFileSync(join(paddle, `static_p${protocol}.pdparams`)),
        readFileSync(join(paddle, `static_p${protocol}.pdopt`)),
      ];
      writeFileSync(join(folder, "A.pdparams"), params);
      await holds(join(folder, "A.pdparams"), false, /\.pdparams$/, WEIGHTS_ONLY);
      await holds(join(folder, "A"), false, /\.pdparams$/, WEIGHTS_ONLY);
      for (const path of ["A", "A.pdparams"]) {
        const error = await failsWith(openWeights(join(folder, path), { optimizer: true }), "FILE_MISSING");
        assert.match(error.message, /expected A\.pdopt or A\.pdopt\.gz/);
      }
      writeFileSync(join(folder, "A.pdopt"), opt);
      await holds(join(folder, "A.pdparams"), true, /\.pdparams and \.pdopt$/);
      writeFileSync(join(folder, "B.pdparams.gz"), gzipSync(params));
      writeFileSync(join(folder, "B.pdopt.gz"), gzipSync(opt));
      await holds(join(folder, "B"), true, /\.pdparams and \.pdopt$/);
      await holds(join(folder, "B.pdparams.gz"), true, /\.pdparams and \.pdopt$/);
      copyFileSync(join(folder, "B.pdparams.gz"), join(folder, "no suffix"));
      await holds(join(folder, "no suffix"), false, /\.pdparams$/, WEIGHTS_ONLY);
    });
  }

  test("unaligned floats of a pickle are read", async (t) => {
    const path = join(temporaryFolder(t), "x.gz");
    for (const name of ["static_p3.pdparams", "static_p4.pdparams"]) {
      for (const bytes of [readFileSync(join(paddle, name)), gzipSync(readFileSync(join(paddle, name)))]) {
        writeFileSync(path, bytes);
        const source = await openWeights(path, { optimizer: false });
        for await (const array of source.read(new Set(source.entries.keys()))) {
          for (const bytes of [array.bytes, Buffer.from(array.bytes.buffer, array.bytes.byteOffset, array.bytes.length)]) {
            const floats = floatsOf({ ...array, bytes }, path);
            assert.equal(
              Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength).toString("base64"),
              expected[array.name]?.row_major,
            );
          }
        }
      }
    }
  });

  test("arrays of a dygraph model have the names of their parameters", async () => {
    for (const protocol of [2, 4]) {
      const source = await openWeights(join(paddle, `dygraph_p${protocol}.pdparams`), { optimizer: false });
      assert.deepEqual([...source.entries.keys()], ["linear_0.w_0", "linear_0.b_0"]);
    }
  });
});

test("a single safetensors file", async (t) => {
  const path = join(temporaryFolder(t), "whatever");
  const data = Float32Array.of(1, 2, 3, 4);
  writeFileSync(path, Buffer.concat([...encodeSafetensors([{ name: "logits_clf_bias", dtype: "F32", shape: [4], data }])]));
  const source = await openWeights(path, { optimizer: true });
  assert.deepEqual([...source.entries], [["logits_clf_bias", { dtype: "f4", shape: [4] }]]);
  for await (const array of source.read(new Set(["logits_clf_bias"]))) assert.deepEqual(floatsOf(array, path), data);
  await source.close();
  writeFileSync(`${path}.gz`, gzipSync(readFileSync(path)));
  assert.match((await failsWith(openWeights(`${path}.gz`, { optimizer: false }), "BAD_WEIGHTS")).message, /Gunzip it first/);
});

/** Writes a .npz as numpy.savez_compressed does, of arrays given as JSON: name, dtype, shape, base64. With an array of a type that is not read. */
const WRITE_NPZ = `
import base64, json, struct, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
    for name, (dtype, shape, data) in {**json.load(sys.stdin), "notes": ["U4", [1], base64.b64encode(b"n\\0\\0\\0" * 4).decode()]}.items():
        head = repr({"descr": "<" + dtype, "fortran_order": False, "shape": tuple(shape)}).encode()
        head += b" " * (-(len(head) + 11) % 64) + b"\\n"
        archive.writestr(name + ".npy", b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(head)) + head + base64.b64decode(data))
print("null")`;

test("a .npz file that Python compressed: other types are skipped, corrupt arrays are an error", needsPython, async (t) => {
  const path = join(temporaryFolder(t), "weights.npz");
  const arrays = Object.entries(expected).map(([name, { dtype, shape, row_major }]) => [name, [dtype, shape, row_major]]);
  runPython(WRITE_NPZ, [path], Buffer.from(JSON.stringify(Object.fromEntries(arrays))));
  await holds(path, true, /a \.npz file/);
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, -10));
  await failsWith(openWeights(path, { optimizer: false }), "BAD_FORMAT", { file: path });
  // Corrupt a byte near the end of an array that is needed: only its checksum detects this.
  const at = bytes.indexOf("PK\x03\x04", bytes.indexOf("batch_norm_0.w_0.npy")) - 6;
  bytes[at] = (bytes[at] as number) ^ 0x40;
  writeFileSync(path, bytes);
  const source = await openWeights(path, { optimizer: false });
  await failsWith(contentOf(source), "BAD_FORMAT", { file: path });
  await source.close();
});

test("other files are an error that names their kind", async (t) => {
  const folder = temporaryFolder(t);
  const at = (name: string, content: Uint8Array | string): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const [empty, pipe] = [join(folder, "empty"), join(folder, "pipe")];
  spawnSync("mkfifo", [pipe]);
  mkdirSync(empty);
  for (const [path, code, pattern] of [
    [at("page", "<!DOCTYPE html><html>"), "BAD_WEIGHTS", /not a file of weights.*a web page here means/],
    [at("nothing", ""), "BAD_WEIGHTS", /not a file of weights/],
    [join(paddle, "dir", "w"), "BAD_WEIGHTS", /single Paddle variable.*pass a directory/i],
    [join(paddle, "combined"), "BAD_WEIGHTS", /several in one file without names/],
    [at("list.pkl", Buffer.from("\x80\x02].", "latin1")), "BAD_WEIGHTS", /expected a pickled dict of arrays.*tf2pkl\.py/],
    [at("empty.zip", Buffer.concat([Buffer.from("PK\x05\x06"), Buffer.alloc(18)])), "BAD_WEIGHTS", /no numpy arrays in this zip file/],
    [at("short.zip", "PK\x03\x04"), "BAD_FORMAT", /short\.zip: not a \.npz file, or corrupt/],
    [pipe, "FILE_UNREADABLE", /cannot read: it is a pipe, not a file/],
    [empty, "BAD_WEIGHTS", /it is empty/],
    [join(folder, "gone"), "FILE_MISSING", /also tried \.pdparams and \.pdparams\.gz/],
  ] as const) {
    assert.match((await failsWith(openWeights(path, { optimizer: false }), code)).message, pattern);
  }
});

test("a corrupt variable is an error that names its file, not a missing one", async (t) => {
  const folder = join(temporaryFolder(t), "v");
  cpSync(join(paddle, "dir"), folder, { recursive: true });
  const file = join(folder, "batch_norm_0.w_1");
  writeFileSync(file, readFileSync(file).subarray(0, 30));
  await failsWith(openWeights(folder, { optimizer: false }), "BAD_FORMAT", { file });
  if (!hasTar) return;
  const tar = join(folder, "..", "x.tar");
  spawnSync("tar", ["cf", tar, "-C", join(folder, ".."), "v"]);
  await failsWith(openWeights(tar, { optimizer: false }), "BAD_FORMAT", { file: `${tar}, entry v/batch_norm_0.w_1` });
});

test("a duplicate variable in a tar is an error", { skip: !hasTar && "tar is missing" }, async (t) => {
  const folder = temporaryFolder(t);
  for (const epoch of ["NEXTVLAD_epoch0", "NEXTVLAD_epoch1"]) cpSync(join(paddle, "dir"), join(folder, "all", epoch), { recursive: true });
  const tar = join(folder, "x.tar");
  spawnSync("tar", ["cf", tar, "-C", folder, "all"]);
  assert.match(
    (await failsWith(openWeights(tar, { optimizer: false }), "BAD_WEIGHTS")).message,
    /in the tar: all\/NEXTVLAD_epoch\d\/.* and all\/NEXTVLAD_epoch\d\//,
  );
});
