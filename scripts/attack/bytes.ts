import { deflateRawSync, gzipSync } from "node:zlib";
import { maskedCrc32c } from "../../src/formats/checksum.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { type EncodedFrames, encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { concat, field, rawBytes, stringField } from "../../src/formats/protobuf/writer.js";

// Building blocks of hostile files.

/** Clears the screen, sets the terminal title, rings the bell and forges an error line. */
export const ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\nerror[FORGED]: forged\x7f\x9b31m";
/** Contains a right-to-left override, an isolate, line and paragraph separators and a right-to-left mark. */
export const BIDI = "a\u202eb\u2066c\u2028d\u2029e\u200ff";
/** Text that programs commonly mishandle, by name; used as ids, keys, names and paths. */
export const HOSTILE_TEXT: Readonly<Record<string, string>> = {
  escapes: ESCAPES,
  bidi: BIDI,
  "1 MB": "x".repeat(1_000_000),
  "1 MB of escapes": "\x1b".repeat(1_000_000),
  __proto__: "__proto__",
  "dollar signs": "a$&b$$c$'d$`",
  "a formula": '=HYPERLINK("http://x","y")',
  "a path upwards": "../../../canary/file",
};

export const MODEL_SIZES = { rgb: 16, audio: 8, classes: 6 } as const;

/** Parts of a video; omitted parts get valid defaults. */
export interface VideoParts {
  readonly id?: string | Uint8Array;
  readonly labels?: readonly number[];
  readonly frames?: number;
  readonly context?: Readonly<Record<string, Uint8Array | readonly number[]>>;
  readonly lists?: readonly EncodedFrames[];
}

/** Encodes a SequenceExample. */
export function video({ id = "clip", labels = [1], frames = 3, context = {}, lists }: VideoParts = {}): Uint8Array {
  return encodeSequenceExample({
    context: { id: Buffer.from(id as string), labels, ...context },
    frameLists: lists ?? [frameList("rgb", MODEL_SIZES.rgb, frames), frameList("audio", MODEL_SIZES.audio, frames)],
  });
}

export function frameList(name: string, frameBytes: number, frames: number): EncodedFrames {
  return { name, frameBytes, data: Uint8Array.from({ length: frameBytes * frames }, (_, i) => (37 * i) % 256) };
}

/** Concatenates TFRecords with correct checksums. */
export function records(...data: readonly Uint8Array[]): Buffer {
  return Buffer.concat(data.map(encodeTfRecord));
}

/** Encodes a TFRecord header: a length and its correct checksum. */
export function recordHead(length: bigint): Buffer {
  const head = Buffer.alloc(12);
  head.writeBigUInt64LE(BigInt.asUintN(64, length));
  head.writeUInt32LE(maskedCrc32c(head.subarray(0, 8)), 8);
  return head;
}

/** Encodes Protocol Buffers messages nested `depth` levels deep. */
export function nestedMessages(depth: number): Uint8Array {
  const heads: Uint8Array[] = [];
  let size = 0;
  for (let i = 0; i < depth; i++) {
    const head = field(1, { pieces: [], size }).pieces[0] as Uint8Array;
    heads.push(head);
    size += head.length;
  }
  return Buffer.concat(heads.reverse());
}

/** Encodes a map entry of a Features or FeatureLists message with arbitrary content. */
export function mapEntry(key: string, value: Uint8Array): Uint8Array {
  return flatten(field(1, concat([stringField(1, key), field(2, rawBytes(value))])));
}

/** Encodes a length-delimited field. */
export function bytesField(number: number, content: Uint8Array): Uint8Array {
  return flatten(field(number, rawBytes(content)));
}

function flatten({ pieces }: { readonly pieces: readonly Uint8Array[] }): Uint8Array {
  return Buffer.concat(pieces);
}

const MEBIBYTE_OF_ZEROS = Buffer.alloc(1 << 20);
const GZIPPED_MEBIBYTE = gzipSync(MEBIBYTE_OF_ZEROS, { level: 9 });

/** Gzips `before`, then `mebibytes` MiB of zeros (about 1 KB per MiB), then `after`. */
export function gzipBomb(before: Uint8Array, mebibytes: number, after: Uint8Array = new Uint8Array(0)): Buffer {
  return Buffer.concat([gzipSync(before), ...Array.from({ length: mebibytes }, () => GZIPPED_MEBIBYTE), gzipSync(after)]);
}

/** Compresses `before` and `mebibytes` MiB of zeros to a raw DEFLATE stream without a final block. */
export function deflateBomb(before: Uint8Array, mebibytes: number): Buffer {
  // A full flush ends on a byte boundary and resets the state, so the same block can be repeated.
  const options = { finishFlush: 3, level: 9 } as const;
  const block = deflateRawSync(MEBIBYTE_OF_ZEROS, options);
  return Buffer.concat([deflateRawSync(before, options), ...Array.from({ length: mebibytes }, () => block)]);
}

/** Builds a .npy file with an arbitrary header text. */
export function npy(header: string, data: Uint8Array = new Uint8Array(0), version = 1, declaredBytes?: number): Buffer {
  const text = Buffer.from(header, "latin1");
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  if (version === 1) length.writeUInt16LE((declaredBytes ?? text.length) & 0xffff);
  else length.writeUInt32LE(declaredBytes ?? text.length);
  return Buffer.concat([Buffer.from("\x93NUMPY", "latin1"), Buffer.from([version, 0]), length, text, data]);
}

/** Formats a .npy header for a dtype and a shape, both in Python syntax. */
export function npyHeader(descr: string, shape: string, order = "False"): string {
  return `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }\n`;
}

/** Builds a .npy file of float32 zeros. */
export function npyOfZeros(...shape: readonly number[]): Buffer {
  return npy(npyHeader("<f4", `(${shape.join(", ")},)`), Buffer.alloc(4 * shape.reduce((product, side) => product * side, 1)));
}

/** A ZIP member: its header fields and its data. */
export interface ZipMember {
  readonly name: string | Uint8Array;
  readonly data: Uint8Array;
  readonly method?: number;
  readonly flags?: number;
  readonly crc?: number;
  /** Sizes declared in the headers. */
  readonly size?: number;
  readonly packedSize?: number;
  /** Offset declared in the central directory. */
  readonly offset?: number;
}

/** Builds a ZIP file whose headers may contradict its contents. */
export function zip(members: readonly ZipMember[], comment = ""): Buffer {
  const pieces: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, data, method = 0, flags = 0, crc = 0, size = data.length, packedSize = data.length, offset = at } of members) {
    const bytes = Buffer.from(name as string);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(flags, 2);
    common.writeUInt16LE(method, 4);
    common.writeUInt32LE(crc, 10);
    common.writeUInt32LE(packedSize, 14);
    common.writeUInt32LE(size, 18);
    common.writeUInt16LE(bytes.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), common, bytes, data]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from("PK\x01\x02\x14\0", "latin1"), common, rest, bytes]));
    pieces.push(local);
    at += local.length;
  }
  const directoryBytes = directory.reduce((sum, { length }) => sum + length, 0);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(members.length & 0xffff, 8);
  end.writeUInt16LE(members.length & 0xffff, 10);
  end.writeUInt32LE(directoryBytes, 12);
  end.writeUInt32LE(at, 16);
  end.writeUInt16LE(Buffer.byteLength(comment), 20);
  return Buffer.concat([...pieces, ...directory, end, Buffer.from(comment)]);
}

/** Builds a tar header with arbitrary field values. */
export function tarHeader(name: string, size: number | string, type = "0", link = ""): Buffer {
  const header = Buffer.alloc(512);
  header.write(name.slice(0, 100), 0, "utf8");
  header.write("0000644\x000000000\x000000000\x00", 100);
  header.write(typeof size === "number" ? `${size.toString(8).padStart(11, "0")}\0` : size, 124, "latin1");
  header.write("00000000000\0        ", 136);
  header.write(type, 156);
  header.write(link, 157);
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

/** Builds a tar entry: header, data and padding. */
export function tarEntry(name: string, data: Uint8Array, type = "0"): Buffer {
  return Buffer.concat([tarHeader(name, data.length, type), data, Buffer.alloc(-data.length & 511)]);
}

export const TAR_END = Buffer.alloc(1024);

/** Builds a safetensors file with an arbitrary header. */
export function safetensors(header: string | Uint8Array, data: Uint8Array = new Uint8Array(0), declaredBytes?: bigint): Buffer {
  const json = Buffer.from(header as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(declaredBytes ?? BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

/** Builds a Paddle variable file whose descriptor may declare any shape. */
export function paddleVariable(dims: readonly bigint[], data: Uint8Array, { levels = 0n, descriptorBytes = -1 } = {}): Buffer {
  const sides = dims.flatMap((side) => [0x10, ...varint(side)]);
  const descriptor = Buffer.from([0x08, 0x05, ...sides]);
  const head = Buffer.alloc(20);
  head.writeBigUInt64LE(levels, 4);
  head.writeInt32LE(descriptorBytes === -1 ? descriptor.length : descriptorBytes, 16);
  return Buffer.concat([head, descriptor, data]);
}

function varint(value: bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

/** Pickle opcodes with their operands. */
export const op = {
  proto: (version: number) => Buffer.from([0x80, version]),
  mark: Buffer.from("("),
  none: Buffer.from("N"),
  list: Buffer.from("]"),
  dict: Buffer.from("}"),
  append: Buffer.from("a"),
  appends: Buffer.from("e"),
  setitem: Buffer.from("s"),
  setitems: Buffer.from("u"),
  tuple: Buffer.from("t"),
  tuple1: Buffer.from([0x85]),
  emptyTuple: Buffer.from(")"),
  reduce: Buffer.from("R"),
  build: Buffer.from("b"),
  stop: Buffer.from("."),
  memoize: Buffer.from([0x94]),
  put: (number: number) => withUint32("r", number),
  get: (number: number) => withUint32("j", number),
  int: (value: number) => {
    const bytes = Buffer.alloc(5, "J");
    bytes.writeInt32LE(value, 1);
    return bytes;
  },
  text: (value: string) => Buffer.concat([withUint32("X", Buffer.byteLength(value)), Buffer.from(value)]),
  bytes: (value: Uint8Array) => Buffer.concat([withUint32("B", value.length), value]),
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  float: (value: number) => {
    const bytes = Buffer.alloc(9, "G");
    bytes.writeDoubleBE(value, 1);
    return bytes;
  },
} as const;

function withUint32(opcode: string, value: number): Buffer {
  const bytes = Buffer.alloc(5, opcode);
  bytes.writeUInt32LE(value, 1);
  return bytes;
}

/** Builds a protocol 4 pickle from opcodes. */
export function pickle(...opcodes: readonly Uint8Array[]): Buffer {
  return Buffer.concat([op.proto(4), ...opcodes, op.stop]);
}

/** Returns the opcodes of a dict. */
export function pickledDict(entries: Readonly<Record<string, Uint8Array>>): Buffer {
  const items = Object.entries(entries).flatMap(([key, value]) => [op.text(key), value]);
  return Buffer.concat([op.dict, op.mark, ...items, op.setitems]);
}

/** Returns the opcodes of a numpy array, as numpy pickles it, with an arbitrary shape and dtype. */
export function pickledArray(shape: readonly Uint8Array[], data: Uint8Array, descr = "u1"): Buffer {
  const reconstruct = [op.global("numpy.core.multiarray", "_reconstruct"), op.mark, op.global("numpy", "ndarray")];
  const empty = [op.mark, op.int(0), op.tuple, op.bytes(Buffer.from("b")), op.tuple, op.reduce];
  const dtype = [op.global("numpy", "dtype"), op.mark, op.text(descr), op.int(0), op.int(1), op.tuple, op.reduce];
  const state = [op.mark, op.int(3), op.text("<"), op.none, op.none, op.none, op.int(-1), op.int(-1), op.int(0), op.tuple, op.build];
  return Buffer.concat([
    ...reconstruct,
    ...empty,
    ...[op.mark, op.int(1), op.mark, ...shape, op.tuple],
    ...dtype,
    ...state,
    ...[Buffer.from([0x89]), op.bytes(data), op.tuple, op.build],
  ]);
}

/** Repeats a piece `times` times. */
export function repeat(piece: Uint8Array, times: number): Buffer {
  return Buffer.concat(Array.from({ length: times }, () => piece));
}
