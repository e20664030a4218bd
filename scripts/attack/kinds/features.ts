import { deflateRawSync } from "node:zlib";
import type { Attempt } from "../attempt.js";
import { BIDI, deflateBomb, ESCAPES, HOSTILE_TEXT, npy, npyHeader, npyOfZeros, zip } from "../bytes.js";

// Inputs of `convert --csv`: a table of labels and one .npy or .npz file per video.

const CONVERT = ["convert", "--to", "tfrecord", "--csv", "labels.csv", "--rgb", "features/{id}.npy", "--out", "out"];
const rows = (...lines: readonly string[]): string => table(lines);
const table = (lines: readonly string[]): string => `id,labels\n${lines.join("\n")}\n`;

/** Tables of labels. Each comes with a valid .npy file for the video `good`. */
const TABLES: Readonly<Record<string, () => string | Uint8Array>> = {
  "empty table": () => "",
  "no header": () => "good,1\n",
  "header with escapes": () => `${ESCAPES.replaceAll("\n", "")},${BIDI}\n`,
  "10,000 columns": () => `id,labels,${"c,".repeat(10_000)}\ngood,1${",".repeat(10_001)}\n`,
  "an open quote and 5 MB": () => `id,labels\n"good${"x\n".repeat(2_500_000)}`,
  "not UTF-8": () => Buffer.from("69642c6c6162656c730a676f6fff2c310a", "hex"),
  "UTF-16": () => Buffer.from(rows("good,1"), "utf16le"),
  "a NUL in a row": () => rows("go\0od,1"),
  "the label 1e400": () => rows("good,1e400"),
  "the label -0": () => rows("good,-0"),
  "a label of 1 MB of digits": () => rows(`good,${"9".repeat(1_000_000)}`),
  "a label with escapes": () => rows(`good,${ESCAPES.replaceAll(/[\r\n"]/g, "")}`),
  "1,000,000 labels": () => rows(`good,${"1 ".repeat(1_000_000)}`),
  "the same id twice": () => rows("good,1", "good,2"),
  "200,000 missing files": () => table(Array.from({ length: 200_000 }, (_, i) => `missing${i},1`)),
  "an absolute path as an id": () => rows("/etc/passwd,1"),
  "a FIFO as the second video": () => rows("good,1", "fifo,1"),
  ...Object.fromEntries(
    Object.entries(HOSTILE_TEXT).map(([name, id]) => [`the id is ${name}`, () => rows(`"${id.replaceAll('"', '""')}",1`)]),
  ),
};

const SHAPE = "(2, 16)";
const DATA = Buffer.alloc(128);
const floats = (...values: readonly number[]): Buffer =>
  Buffer.from(Float32Array.from({ length: 32 }, (_, i) => values[i % values.length] as number).buffer);

/** Feature files. */
const ARRAYS: Readonly<Record<string, () => Uint8Array>> = {
  "empty .npy": () => Buffer.alloc(0),
  "a .npy header of 4 GiB": () => npy("{", Buffer.alloc(100), 2, 0xfffffff0),
  "a .npy of 2^60 values": () => npy(npyHeader("<f4", "(1073741824, 1073741824)"), DATA),
  "a .npy of 2^31 rows without columns": () => npy(npyHeader("<f4", "(2147483648, 0)")),
  "a .npy of 2^31 columns without rows": () => npy(npyHeader("<f4", "(0, 2147483648)")),
  "a .npy of a negative shape": () => npy(npyHeader("<f4", "(-2, -16)"), DATA),
  "a .npy of a fractional shape": () => npy(npyHeader("<f4", "(2.5, 16)"), DATA),
  "a .npy of 10,000 dimensions": () => npy(npyHeader("<f4", `(${"1, ".repeat(10_000)})`), Buffer.alloc(4)),
  "a .npy of nested tuples": () => npy(`${"(".repeat(20_000)}`, DATA),
  "a .npy type with escapes": () => npy(npyHeader(`<f4${ESCAPES}`, SHAPE), DATA),
  "a .npy type with 1 MB": () => npy(npyHeader("x".repeat(1_000_000), SHAPE), DATA, 2),
  "a .npy header with escapes": () => npy(`{'${ESCAPES}': ${BIDI}`, DATA),
  "a .npy of objects with a pickle": () => npy(npyHeader("|O", SHAPE), Buffer.from("cos\nsystem\n(S'touch ../canary/owned'\ntR.")),
  "a .npy of Python code": () => npy("__import__('os').system('touch ../canary/owned')\n", DATA),
  "a .npy version 255": () => npy(npyHeader("<f4", SHAPE), DATA, 255),
  "a .npy cut off": () => npyOfZeros(2, 16).subarray(0, -5),
  "a .npy of NaN": () => npy(npyHeader("<f4", SHAPE), floats(Number.NaN, 1)),
  "a .npy of infinities": () => npy(npyHeader("<f4", SHAPE), floats(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY)),
  "a .npy of 3e38 and 1e-45": () => npy(npyHeader("<f4", SHAPE), floats(3e38, 1e-45, -3e38)),
  "an .npz without arrays": () => zip([]),
  "an .npz bomb": () => {
    const head = npy(npyHeader("<f4", "(67108864, 4)"));
    const data = deflateBomb(head, 1024);
    return zip([{ name: "rgb.npy", data: Buffer.concat([data, deflateRawSync(Buffer.alloc(0))]), method: 8, size: head.length + 2 ** 30 }]);
  },
  "an .npz that declares 4 GiB": () => zip([{ name: "rgb.npy", data: deflateRawSync(npyOfZeros(2, 16)), method: 8, size: 0xfffffffe }]),
  "an .npz with 65,535 members": () => zip(Array.from({ length: 65_535 }, () => ({ name: "x.npy", data: new Uint8Array(0) }))),
  "an .npz with overlapping members": () =>
    zip(Array.from({ length: 3000 }, (_, i) => ({ name: `${i}.npy`, data: npyOfZeros(2, 16), offset: 0 }))),
  "an .npz member beyond the file": () => zip([{ name: "rgb.npy", data: npyOfZeros(2, 16), offset: 0x7fffffff }]),
  "an .npz that is encrypted": () => zip([{ name: "rgb.npy", data: npyOfZeros(2, 16), flags: 1 }]),
  "an .npz of an unknown method": () => zip([{ name: "rgb.npy", data: npyOfZeros(2, 16), method: 99 }]),
  "an .npz with a wrong checksum": () => zip([{ name: "rgb.npy", data: npyOfZeros(2, 16), crc: 1 }]),
  "an .npz with escapes in a name": () =>
    zip([
      { name: `${ESCAPES}.npy`, data: npyOfZeros(2, 16) },
      { name: `${BIDI}.npy`, data: npyOfZeros(2, 16) },
    ]),
  "an .npz with a parent directory in a name": () => zip([{ name: "../../canary/file", data: npyOfZeros(2, 16) }]),
  "an .npz whose comment is a second .npz": () => zip([{ name: "rgb.npy", data: npyOfZeros(2, 16) }], zip([]).toString("latin1")),
};

export const featureAttempts: readonly Attempt[] = [
  ...Object.entries(TABLES).map(
    ([name, make]): Attempt => ({
      kind: "features",
      name: `table: ${name}`,
      prepare: (place) => {
        place.file("labels.csv", make());
        place.file("features/good.npy", npyOfZeros(2, 16));
        place.fifo("features/fifo.npy");
      },
      args: CONVERT,
      ...(name.includes("FIFO") ? { mayWait: true, signals: [{ name: "SIGTERM", afterMs: 6000 }], exits: [1, 2, 143, "SIGKILL"] } : {}),
    }),
  ),
  ...Object.entries(ARRAYS).map(
    ([name, make]): Attempt => ({
      kind: "features",
      name,
      prepare: (place) => {
        place.file("labels.csv", rows("good,1", "odd,2"));
        place.file("features/good.npy", npyOfZeros(2, 16));
        place.file("features/odd.npy", make());
      },
      args: CONVERT,
      ...(name.includes("bomb") ? { isSlow: true } : {}),
    }),
  ),
  {
    kind: "features",
    name: "dollar signs in the pattern and in the ids",
    prepare: (place) => {
      place.file("labels.csv", rows("a$$b,1", "a$&b,0"));
      for (const name of ["a$$b", "a$&b"]) place.file(`$1/${name}.npy`, npyOfZeros(2, 16));
    },
    args: ["convert", "--to", "tfrecord", "--csv", "labels.csv", "--rgb", "$1/{id}.npy", "--out", "out"],
    exits: [0],
  },
];
