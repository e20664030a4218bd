import { deflateRawSync, gzipSync } from "node:zlib";
import type { Attempt } from "../attempt.js";
import { LIST, MODEL, SNAPSHOT, WEIGHTS } from "../base.js";
import {
  BIDI,
  deflateBomb,
  ESCAPES,
  gzipBomb,
  HOSTILE_TEXT,
  npy,
  npyHeader,
  npyOfZeros,
  op,
  paddleVariable,
  pickle,
  pickledArray,
  pickledDict,
  repeat,
  safetensors,
  TAR_END,
  tarEntry,
  tarHeader,
  zip,
} from "../bytes.js";
import type { Workplace } from "../workplace.js";

const MILLION = 1_000_000;
const tensor = (name: string, shape: readonly number[], end: number, dtype = "F32", begin = 0): string =>
  `${JSON.stringify(name)}:{"dtype":${JSON.stringify(dtype)},"shape":${JSON.stringify(shape)},"data_offsets":[${begin},${end}]}`;
const withTensors = (...entries: readonly string[]): Buffer => safetensors(`{${entries.join(",")}}`, Buffer.alloc(64));
const member = (name: string) => ({ name: `${name}.npy`, data: npyOfZeros(2) });
const array = (count = 4): Buffer => pickledArray([op.int(count)], Buffer.alloc(4 * count), "f4");
const variable = paddleVariable([2n], Buffer.alloc(8));
const longName = (text: string): Buffer => Buffer.concat([tarEntry("././@LongLink", Buffer.from(text), "L"), tarEntry("short", variable)]);
const pax = (line: string): Buffer => Buffer.concat([tarEntry("pax", Buffer.from(line), "x"), tarEntry("short", variable)]);

/** Hostile weight files, by file name and description. */
const FILES: Readonly<Record<string, Readonly<Record<string, () => Uint8Array>>>> = {
  "in.safetensors": {
    "empty file": () => Buffer.alloc(0),
    "a header of 2^63 bytes": () => safetensors("{}", Buffer.alloc(8), 1n << 63n),
    "a header of 9.9 MB": () => safetensors(`{}${" ".repeat(9_900_000)}`),
    "a header of 1 GB": () => safetensors("{}", Buffer.alloc(8), 1_000_000_000n),
    "a header that is not JSON": () => safetensors(`{${ESCAPES}`),
    "a header that is an array": () => safetensors("[1]"),
    "JSON nested 1,000,000 deep": () => safetensors("[".repeat(MILLION)),
    "a tensor __proto__": () => withTensors(tensor("__proto__", [2], 8), tensor("constructor", [2], 16, "F32", 8)),
    "tensors with escapes in their names": () => withTensors(tensor(ESCAPES, [2], 8), tensor(BIDI, [2], 16, "F32", 8)),
    "a type with escapes": () => withTensors(tensor("w", [2], 8, ESCAPES)),
    "the same tensor twice": () => withTensors(tensor("w", [2], 8), tensor("w", [2], 16, "F32", 8)),
    "overlapping tensors": () => withTensors(tensor("v", [2], 8), tensor("w", [2], 8)),
    "data beyond the file": () => withTensors(tensor("w", [2 ** 28], 2 ** 30)),
    "decreasing offsets": () => withTensors(tensor("w", [2], -8, "F32", 64)),
    "a shape of 2^60 values": () => withTensors(tensor("w", [2 ** 30, 2 ** 30], 2 ** 62)),
    "a shape of 0 x 2^53": () => withTensors(tensor("w", [0, 2 ** 53 - 1], 0)),
    "a negative shape": () => withTensors(tensor("w", [-2], 8)),
    "a shape of 100,000 dimensions": () =>
      withTensors(
        tensor(
          "w",
          Array.from({ length: 100_000 }, () => 1),
          4,
        ),
      ),
    "100,000 tensors": () => withTensors(...Array.from({ length: 100_000 }, (_, i) => tensor(`w${i}`, [0], 0))),
    "metadata with escapes": () => withTensors(`"__metadata__":{"config":${JSON.stringify(ESCAPES)},"step":"1e400"}`),
    "metadata with a config full of aliases": () =>
      withTensors(
        `"__metadata__":{"config":${JSON.stringify(`a: &a [x]\n${Array.from({ length: 50 }, (_, i) => `b${i}: [*a,*a]`).join("\n")}`)}}`,
      ),
    "metadata that is a number": () => withTensors('"__metadata__":1'),
    "only the classifier": () => withTensors(tensor("logits_clf_weights", [4, 3], 48)),
  },
  "in.npz": {
    "empty zip": () => zip([]),
    "not a zip": () => Buffer.from(`PK\x03\x04${ESCAPES}`),
    "a bomb of 1 GiB": () => {
      const head = npy(npyHeader("<f4", "(268435456,)"));
      const data = Buffer.concat([deflateBomb(head, 1024), deflateRawSync(Buffer.alloc(0))]);
      return zip([{ name: "logits_clf_bias.npy", data, method: 8, size: head.length + 2 ** 30 }]);
    },
    "names with escapes": () => zip([member(ESCAPES), member(BIDI)]),
    "names with parent directories": () => zip([member("../../canary/file"), member("/etc/passwd")]),
    "a name __proto__": () => zip([member("__proto__"), member("constructor")]),
    "the same name twice": () => zip([member("logits_clf_bias"), member("logits_clf_bias")]),
    "a .npy of 2^60 values": () => zip([{ name: "logits_clf_bias.npy", data: npy(npyHeader("<f4", "(1152921504606846976,)")) }]),
    "a .npy type with escapes": () => zip([{ name: "logits_clf_bias.npy", data: npy(npyHeader(ESCAPES, "(2,)"), Buffer.alloc(8)) }]),
    "60,000 members": () => zip(Array.from({ length: 60_000 }, (_, i) => member(`w${i}`))),
  },
  "in.pdparams": {
    "empty pickle": () => pickle(op.dict),
    "not a dict": () => pickle(op.list),
    "3,000,000 None": () => pickle(op.list, op.mark, Buffer.alloc(3 * MILLION, op.none), op.appends),
    "dicts nested 300,000 deep": () =>
      pickle(repeat(Buffer.concat([op.dict, op.text("a")]), 300_000), op.none, repeat(op.setitem, 300_000)),
    "gzip bomb: text of 2 GiB": () =>
      gzipBomb(Buffer.concat([op.proto(2), op.dict, op.text("a"), Buffer.from("X\xff\xff\xff\x7f", "latin1")]), 2048),
    "gzip bomb: bytes of 2 GiB": () =>
      gzipBomb(Buffer.concat([op.proto(4), op.dict, op.text("a"), Buffer.from("B\xff\xff\xff\x7f", "latin1")]), 2048),
    "gzip of gzip": () => gzipSync(gzipSync(pickle(op.dict))),
    "names with escapes": () => pickle(pickledDict({ [ESCAPES]: array(), [BIDI]: array() })),
    "names of 1 MB": () => pickle(pickledDict({ ["x".repeat(MILLION)]: array() })),
    "a name __proto__": () => pickle(pickledDict({ ["__proto__"]: array(), logits_clf_bias: array() })),
    "values that are text with escapes": () => pickle(pickledDict({ logits_clf_bias: op.text(ESCAPES) })),
    "a name table with invalid entries": () =>
      pickle(pickledDict({ "StructuredToParameterName@@": pickledDict({ [ESCAPES]: op.text("__proto__") }), [ESCAPES]: array() })),
    "inconsistent parts of a large array": () =>
      pickle(
        pickledDict({
          "UnpackBigParamInfor@@": pickledDict({ w: pickledDict({ OriginShape: op.text(ESCAPES), slices: op.int(2 ** 31 - 1) }) }),
          "w@@.0": array(),
        }),
      ),
    "os.system": () => pickle(op.global("os", "system"), op.mark, op.text("touch ../canary/owned"), op.tuple, op.reduce),
    "a type with escapes": () => pickle(pickledDict({ logits_clf_bias: pickledArray([op.int(4)], Buffer.alloc(16), ESCAPES) })),
    "a classifier of 2^40 classes": () =>
      pickle(pickledDict({ logits_clf_bias: pickledArray([op.int(2 ** 30), op.int(2 ** 30)], Buffer.alloc(16), "f4") })),
  },
  "in.tar.gz": {
    "300,000 entries": () => gzipSync(Buffer.concat([repeat(tarHeader("w", 0), 300_000), TAR_END])),
    "300,000 entries with other names": () =>
      gzipSync(Buffer.concat([...Array.from({ length: 300_000 }, (_, i) => tarHeader(`w${i}`, 0)), TAR_END]), { level: 1 }),
    "names with parent directories": () => gzipSync(Buffer.concat([tarEntry("../../canary/file", variable), TAR_END])),
    "an absolute name": () => gzipSync(Buffer.concat([tarEntry("/etc/passwd", variable), TAR_END])),
    "names with escapes": () => gzipSync(Buffer.concat([tarEntry(ESCAPES, variable), tarEntry(BIDI, variable), TAR_END])),
    "a link to the canary": () => gzipSync(Buffer.concat([tarHeader("logits_clf_bias", 0, "2", "../../canary/file"), TAR_END])),
    "a device": () => gzipSync(Buffer.concat([tarHeader("logits_clf_bias", 0, "3"), TAR_END])),
    "an entry of 8 GiB": () => gzipSync(Buffer.concat([tarHeader("w", 2 ** 33 - 1), TAR_END])),
    "a size that is text with escapes": () => gzipSync(Buffer.concat([tarHeader("w", "\x1b[2J\x1b[31m"), TAR_END])),
    "a size of 2^63": () => gzipSync(Buffer.concat([tarHeader("w", "\x80\0\0\0\x80\0\0\0\0\0\0\0"), TAR_END])),
    "a long name of 60 KB": () => gzipSync(Buffer.concat([longName("x".repeat(60_000)), TAR_END])),
    "a long name with escapes": () => gzipSync(Buffer.concat([longName(ESCAPES.repeat(20)), TAR_END])),
    "a pax path with escapes": () => gzipSync(Buffer.concat([pax(`${ESCAPES.length + 9} path=${ESCAPES}\n`), TAR_END])),
    "an unterminated pax record": () => gzipSync(Buffer.concat([pax("999999 path=x"), TAR_END])),
    "a pax size of -1": () => gzipSync(Buffer.concat([pax("11 size=-1\n"), TAR_END])),
    "gzip bomb: an entry of 2 GiB": () => gzipBomb(tarHeader("logits_clf_bias", 2 ** 31), 2048, TAR_END),
    "gzip bomb: 4 GiB after the end": () => gzipBomb(Buffer.concat([tarEntry("logits_clf_bias", variable), TAR_END]), 4096),
    "no end": () => gzipSync(tarEntry("logits_clf_bias", variable)),
    text: () => gzipSync(Buffer.from(ESCAPES)),
  },
};

/** Hostile directories of Paddle variables. */
const FOLDERS: Readonly<Record<string, (place: Workplace) => void>> = {
  "an empty directory": (place) => place.file("in/.keep", ""),
  "names with escapes": (place) => {
    place.file(`in/${ESCAPES.replaceAll("/", "")}`, variable);
    place.file(`in/${BIDI}`, variable);
  },
  "a FIFO as a variable": (place) => {
    place.file("in/gating_fc1_weights", variable);
    place.fifo("in/logits_clf_bias");
  },
  "a directory as a variable": (place) => place.file("in/logits_clf_bias/x", variable),
  "a link to the directory itself": (place) => {
    place.file("in/logits_clf_bias", variable);
    place.link("in/logits_clf_weights", ".");
  },
  "10,000 files": (place) => {
    for (let i = 0; i < 10_000; i++) place.file(`in/w${i}`, variable);
  },
  "a shape of 2^60 values": (place) => place.file("in/logits_clf_bias", paddleVariable([1n << 60n], Buffer.alloc(8))),
  "a negative shape": (place) => place.file("in/logits_clf_bias", paddleVariable([-2n], Buffer.alloc(8))),
  "2^62 levels": (place) => place.file("in/logits_clf_bias", paddleVariable([2n], Buffer.alloc(8), { levels: 1n << 62n })),
  "a descriptor of 2^31-1 bytes": (place) =>
    place.file("in/logits_clf_bias", paddleVariable([2n], Buffer.alloc(8), { descriptorBytes: 2 ** 31 - 1 })),
  "a descriptor of -1 bytes": (place) => place.file("in/logits_clf_bias", paddleVariable([2n], Buffer.alloc(8), { descriptorBytes: -2 })),
  "100,000 dimensions": (place) =>
    place.file(
      "in/logits_clf_bias",
      paddleVariable(
        Array.from({ length: 100_000 }, () => 1n),
        Buffer.alloc(4),
      ),
    ),
};

/** Changes to valid weights. */
const CHANGED: Readonly<Record<string, (place: Workplace) => void>> = {
  "a variable replaced by another shape": (place) => {
    place.copy(WEIGHTS.variables, "in");
    place.file("in/logits_clf_bias", variable);
  },
  "a variable of NaN": (place) => {
    place.copy(WEIGHTS.variables, "in");
    place.file("in/logits_clf_bias", paddleVariable([6n], Buffer.alloc(24, 0xff)));
  },
  "a snapshot without its state": (place) => {
    place.copy(SNAPSHOT, "in");
    place.file("in/state.json", "");
  },
};

const COMMANDS: Readonly<Record<string, (path: string) => readonly string[]>> = {
  inspect: (path) => ["inspect", path],
  export: (path) => ["export", "--weights", path, "--format", "npz", "--out", "out/x.npz"],
};
const INFER = (path: string): readonly string[] => ["infer", "--weights", path, "--filelist", LIST, "--save-dir", "out"];
const PRETRAIN = (path: string): readonly string[] => ["train", "--config", "../base/config.yaml", "--pretrain", path, "--save-dir", "out"];

export const weightAttempts: readonly Attempt[] = [
  ...Object.entries(FILES).flatMap(([file, contents]) =>
    Object.entries(contents).flatMap(([name, make]) =>
      Object.entries(COMMANDS).map(
        ([command, args]): Attempt => ({
          kind: "weights",
          name: `${file}: ${name}: ${command}`,
          prepare: (place) => place.file(file, make()),
          args: args(file),
          ...(/bomb|\d00,000/.test(name) ? { isSlow: true } : {}),
        }),
      ),
    ),
  ),
  ...Object.entries(FOLDERS).flatMap(([name, prepare]) =>
    Object.entries(COMMANDS).map(
      ([command, args]): Attempt => ({ kind: "weights", name: `directory: ${name}: ${command}`, prepare, args: args("in") }),
    ),
  ),
  ...Object.entries(CHANGED).flatMap(([name, prepare]) =>
    Object.entries({ infer: INFER, pretrain: PRETRAIN }).map(
      ([command, args]): Attempt => ({
        kind: "weights",
        name: `${name}: ${command}`,
        prepare,
        args: args("in"),
        usesModel: true,
      }),
    ),
  ),
  ...Object.entries(HOSTILE_TEXT).map(
    ([name, text]): Attempt => ({
      kind: "weights",
      name: `a tensor whose name is ${name}`,
      prepare: (place) => place.file("in.safetensors", withTensors(tensor(text, [2], 8))),
      args: ["inspect", "in.safetensors", "--json"],
    }),
  ),
  {
    kind: "weights",
    name: "weights that are a shard",
    args: ["export", "--weights", "../base/a.tfrecord", "--format", "onnx", "--out", "out/x.onnx"],
  },
  {
    kind: "weights",
    name: "a shard as a directory of weights",
    args: ["infer", "--weights", "../base", "--filelist", LIST, "--save-dir", "out"],
  },
  { kind: "weights", name: "weights that are the model's log", args: ["inspect", `${MODEL}/train.log.jsonl`] },
];
