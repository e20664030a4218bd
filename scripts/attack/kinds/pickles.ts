import { gzipSync } from "node:zlib";
import type { Attempt } from "../attempt.js";
import { CONFIG, SNAPSHOT } from "../base.js";
import { BIDI, ESCAPES, gzipBomb, HOSTILE_TEXT, MODEL_SIZES, op, pickle, pickledArray, pickledDict, repeat } from "../bytes.js";

const { rgb, audio } = MODEL_SIZES;
const text = (opcode: string): Buffer => Buffer.from(opcode, "latin1");
const uint64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};
const features = (size: number, frames = 2): Buffer => pickledArray([op.int(frames), op.int(size)], Buffer.alloc(frames * size));
const list = (...items: readonly Uint8Array[]): Buffer => Buffer.concat([op.list, op.mark, ...items, op.appends]);
/** Returns the opcodes of a video as PaddleVideo pickles it; `changes` override the valid entries. */
const clip = (changes: Readonly<Record<string, Uint8Array>> = {}): Buffer =>
  pickledDict({
    video: op.text("clip"),
    feature: features(rgb),
    audio: features(audio),
    label: list(op.int(1)),
    nframes: op.int(2),
    ...changes,
  });
const shard = (changes?: Readonly<Record<string, Uint8Array>>): Buffer => pickle(list(clip(), clip(changes)));
const MILLION = 1_000_000;

/** Hostile pickles, by description. */
const PICKLES: Readonly<Record<string, () => Uint8Array>> = {
  "3,000,000 None": () => pickle(list(Buffer.alloc(3 * MILLION, op.none))),
  "1,000,000 empty dicts": () => pickle(list(Buffer.alloc(MILLION, op.dict))),
  "300,000 dicts with a hostile id": () => pickle(list(repeat(pickledDict({ video: op.text(ESCAPES) }), 300_000))),
  "gzip of 30,000,000 None": () => gzipSync(pickle(list(Buffer.alloc(30 * MILLION, op.none)))),
  "lists nested 1,000,000 deep": () => pickle(Buffer.alloc(MILLION, op.list), Buffer.alloc(MILLION - 1, op.append)),
  "tuples nested 1,000,000 deep": () => pickle(op.none, Buffer.alloc(MILLION, op.tuple1)),
  "1,000,000 marks": () => pickle(Buffer.alloc(MILLION, op.mark)),
  "1,000,000 memos": () => pickle(op.none, Buffer.alloc(MILLION, op.memoize)),
  "a memo numbered 2^32-1": () => pickle(op.none, op.put(0xffffffff)),
  "a missing memo": () => pickle(op.get(0x7fffffff)),
  "a list that contains itself": () => pickle(op.list, op.put(0), op.get(0), op.append),
  "a dict that contains itself": () => pickle(op.dict, op.put(0), op.text("feature"), op.get(0), op.setitem),
  "10^30 items by shared lists": () => {
    const levels = Array.from({ length: 30 }, (_, i) => [list(...Array.from({ length: 10 }, () => op.get(i))), op.put(i + 1)]);
    return pickle(op.list, op.put(0), ...levels.flat());
  },
  "the same video 1,000,000 times by its memo": () => pickle(clip(), op.put(1), list(repeat(op.get(1), MILLION))),
  "an int of 1 MB of digits": () => pickle(text(`I${"9".repeat(MILLION)}\n`)),
  "a long of 2^31-1 bytes": () => pickle(text("\x8b\xff\xff\xff\x7f"), Buffer.alloc(10)),
  "a long of -1 bytes": () => pickle(text("\x8b\xff\xff\xff\xff"), Buffer.alloc(10)),
  "text of 2^32-1 bytes": () => pickle(text("X\xff\xff\xff\xff"), Buffer.alloc(10)),
  "text of 2^63 bytes": () => pickle(text("\x8d"), uint64(1n << 63n)),
  "bytes of 2^40": () => pickle(text("\x8e"), uint64(1n << 40n), Buffer.alloc(10)),
  "gzip bomb: text of 1 GiB": () => gzipBomb(Buffer.concat([op.proto(4), op.list, text("X\0\0\0\x40")]), 1024, Buffer.from("a.")),
  "gzip bomb: an id of 1 GiB": () =>
    gzipBomb(Buffer.concat([op.proto(4), op.list, op.mark, op.dict, op.text("video"), text("X\0\0\0\x40")]), 1024, Buffer.from("se.")),
  "a frame of 2^63 bytes": () => pickle(text("\x95"), uint64(1n << 63n)),
  "os.system": () => pickle(op.global("os", "system"), op.mark, op.text("touch ../canary/owned"), op.tuple, op.reduce),
  "builtins.eval from the stack": () =>
    pickle(op.text("builtins"), op.text("eval"), text("\x93"), op.mark, op.text("1"), op.tuple, op.reduce),
  "a global with escapes in its name": () => pickle(op.global(`os${ESCAPES.replaceAll("\n", "")}`, `x${BIDI}`)),
  "a persistent id with escapes": () => pickle(text(`P\x1b]0;owned\x07\n`)),
  "an instance of a class": () => pickle(op.mark, text("isubprocess\nPopen\n")),
  "an extension code": () => pickle(text("\x82\x01")),
  "protocol 200": () => Buffer.concat([op.proto(200), op.list, op.stop]),
  "an opcode that does not exist": () => pickle(text("\xff\x1b")),
  "no end": () => Buffer.concat([op.proto(4), list(clip())]),
  "nothing on the stack": () => pickle(),
  "reduce without a function": () => pickle(op.emptyTuple, op.emptyTuple, op.reduce),
  "build on an int": () => pickle(op.int(1), op.dict, op.build),
  "setitems with an odd count": () => pickle(op.dict, op.mark, op.none, text("u")),
  "a dict as a key": () => pickle(op.dict, op.dict, op.none, op.setitem),
  "keys with escapes": () => shard({ [ESCAPES]: op.text(ESCAPES), [BIDI]: op.none }),
  "the key __proto__": () => shard({ ["__proto__"]: pickledDict({ nframes: op.int(1) }), constructor: op.none }),
  "nframes -1": () => shard({ nframes: op.int(-1) }),
  "nframes 2^31-1": () => shard({ nframes: op.int(2 ** 31 - 1) }),
  "nframes NaN": () => shard({ nframes: op.float(Number.NaN) }),
  "labels of 10^309 and NaN": () => shard({ label: list(op.float(1e308), op.float(Number.NaN), text(`I${"9".repeat(400)}\n`)) }),
  "labels that are text with escapes": () => shard({ label: list(op.text(ESCAPES)) }),
  "an array of 2^40 values": () => shard({ feature: pickledArray([op.int(2 ** 20), op.int(2 ** 20)], Buffer.alloc(32)) }),
  "an array of a negative shape": () => shard({ feature: pickledArray([op.int(-2), op.int(-rgb)], Buffer.alloc(32)) }),
  "an array of 1,000 dimensions": () =>
    shard({
      feature: pickledArray(
        Array.from({ length: 1000 }, () => op.int(1)),
        Buffer.alloc(1),
      ),
    }),
  "an array of objects": () => shard({ feature: pickledArray([op.int(2), op.int(rgb)], Buffer.alloc(32), "O") }),
  "an array's type with escapes": () => shard({ feature: pickledArray([op.int(2), op.int(rgb)], Buffer.alloc(32), ESCAPES) }),
  "an array without rows": () => shard({ feature: pickledArray([op.int(0), op.int(rgb)], Buffer.alloc(0)) }),
  ...Object.fromEntries(
    Object.entries(HOSTILE_TEXT).map(([name, id]) => [`the id is ${name}`, () => shard({ video: op.text(id), label: op.none })]),
  ),
};

const READERS: Readonly<Record<string, readonly string[]>> = {
  verify: ["verify", "in.pkl", "--config", CONFIG],
  inspect: ["inspect", "in.pkl"],
  convert: ["convert", "--to", "tfrecord", "--filelist", "in.pkl", "--out", "out"],
};
const INFER = ["infer", "--weights", SNAPSHOT, "--filelist", "in.pkl", "--save-dir", "out", "--on-corrupt", "skip-shard"];

export const pickleAttempts: readonly Attempt[] = Object.entries(PICKLES).flatMap(([name, make], i) => {
  // Inference runs on every fourth pickle.
  const commands = [...Object.entries(READERS), ...(i % 4 === 0 ? [["infer", INFER] as const] : [])];
  return commands.map(
    ([command, args]): Attempt => ({
      kind: "pickle",
      name: `${name}: ${command}`,
      prepare: (place) => place.file("in.pkl", make()),
      args,
      ...(/bomb|\d00,000/.test(name) ? { isSlow: true } : {}),
    }),
  );
});
