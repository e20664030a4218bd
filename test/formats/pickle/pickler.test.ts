import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { pickleArray } from "../../../src/formats/pickle/numpy.js";
import { encodePickledList } from "../../../src/formats/pickle/pickler.js";
import { parsePickle } from "../../../src/formats/pickle/unpickler.js";
import {
  ByteString,
  Bytes,
  Global,
  LazyString,
  type Picklable,
  type PickledValue,
  ReducedObject,
  Tuple,
} from "../../../src/formats/pickle/values.js";

/** Loads the pickles on stdin one after another and prints each as nested [type, value], floats as their bits, Python 2's strings as bytes in hex. */
const PRINT_PICKLES = `
import json, pickle, struct, sys

def describe(value):
    name = type(value).__name__
    if isinstance(value, (list, tuple)):
        return [name, [describe(item) for item in value]]
    if isinstance(value, dict):
        return [name, [[describe(key), describe(item)] for key, item in value.items()]]
    if isinstance(value, bytes):
        return [name, value.hex()]
    if isinstance(value, float):
        return [name, struct.pack(">d", value).hex()]
    if isinstance(value, str):
        return [name, value]
    return [name, str(value)]

sys.stdin = sys.stdin.buffer
while sys.stdin.peek(1):
    print(json.dumps(describe(pickle.load(sys.stdin, encoding='bytes'))))
`;

type Described = readonly [type: string, value: string | readonly Described[] | readonly (readonly [key: Described, value: Described])[]];

function describeFloat(value: number): Described {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return ["float", bytes.toString("hex")];
}

/** Returns what Python should print for a value, independently of the encoder's type mapping. */
function expectedInPython(value: Picklable): Described {
  if (value === null) return ["NoneType", "None"];
  if (value === true) return ["bool", "True"];
  if (value === false) return ["bool", "False"];
  if (typeof value === "number") return describeFloat(value);
  if (typeof value === "bigint") return ["int", String(value)];
  if (typeof value === "string") return ["str", value];
  if (value instanceof Tuple) return ["tuple", value.items.map(expectedInPython)];
  if (value instanceof ByteString || value instanceof Bytes) return ["bytes", Buffer.from(value.bytes).toString("hex")];
  if (value instanceof Map) return ["dict", Array.from(value, ([key, item]) => [expectedInPython(key), expectedInPython(item)] as const)];
  if (value instanceof Global || value instanceof ReducedObject) throw new Error("another test's");
  if (value instanceof Float32Array || value instanceof Float64Array) return ["list", Array.from(value, describeFloat)];
  if (ArrayBuffer.isView(value)) return ["list", Array.from(value as Iterable<number | bigint>, (item) => ["int", String(item)])];
  return ["list", Array.from(value as Iterable<Picklable>, expectedInPython)];
}

async function pickle(items: Iterable<Picklable> | AsyncIterable<Picklable>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of encodePickledList(items)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function loadInPython(pickles: readonly Buffer[]): Described[] {
  const python = spawnSync("python3", ["-c", PRINT_PICKLES], { input: Buffer.concat(pickles), encoding: "utf8", maxBuffer: 1 << 28 });
  assert.equal(python.status, 0, python.stderr);
  return python.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Described);
}

const arbitraryValue: fc.Arbitrary<Picklable> = fc.letrec<{ value: Picklable }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom(null, true, false),
    fc.double(),
    fc.bigInt({ min: -(2n ** 80n), max: 2n ** 80n }),
    fc.maxSafeInteger().map(BigInt),
    fc.string({ unit: "grapheme" }),
    fc.string({ unit: "binary" }),
    fc.float32Array({ maxLength: 5 }),
    fc.int32Array({ maxLength: 5 }),
    fc.bigUint64Array({ maxLength: 5 }),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => new ByteString(bytes)),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => new Bytes(bytes)),
    fc.dictionary(fc.string(), tie("value"), { maxKeys: 4 }).map((entries) => new Map(Object.entries(entries))),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.array(tie("value"), { maxLength: 4 }).map((items) => new Tuple(items)),
  ),
})).value;

describe("Python loads", () => {
  test("any value, with its type", async () => {
    const lists = fc.sample(fc.array(arbitraryValue, { maxLength: 6 }), 300);
    const found = loadInPython(await Promise.all(lists.map(pickle)));
    assert.deepEqual(found, lists.map(expectedInPython));
  });

  test("ints at the limits of every encoding", async () => {
    const powers = [8n, 16n, 31n, 32n, 39n, 40n, 63n, 64n, 2000n].map((bits) => 2n ** bits);
    const edges = powers.flatMap((power) => [power - 1n, power, power + 1n, -power - 1n, -power, -power + 1n]);
    assert.deepEqual(loadInPython([await pickle(edges)]), [expectedInPython(edges)]);
  });

  test("empty and long lists, as lists and as arrays", async () => {
    const lists = [0, 1, 999, 1000, 1001, 2000, 70_000].map((length) => [
      Float32Array.from({ length }, (_, i) => i / 3),
      Array.from({ length }, (_, i) => BigInt(i)),
    ]);
    assert.deepEqual(loadInPython(await Promise.all(lists.map(pickle))), lists.map(expectedInPython));
    const long = Array.from({ length: 2500 }, (_, i) => `video ${i}`);
    assert.deepEqual(loadInPython([await pickle([]), await pickle(long)]), [expectedInPython([]), expectedInPython(long)]);
  });
});

test("byte strings at the limits of every encoding; long ones are not copied", async () => {
  const strings = [0, 1, 255, 256, 32_767, 32_768, 200_000].map((length) => new ByteString(new Uint8Array(length).map((_, i) => i * 7)));
  assert.deepEqual(loadInPython([await pickle(strings)]), [expectedInPython(strings)]);
  const chunks: Uint8Array[] = [];
  for await (const chunk of encodePickledList(strings)) chunks.push(chunk);
  assert.ok(chunks.includes(strings.at(-1)?.bytes as Uint8Array));
});

/** Loads the pickle on stdin with stubs for numpy's names, and prints all calls with their arguments. */
const PRINT_CALLS = `
import pickle, sys

class Called:
    def __init__(self, name, args):
        self.text = name + repr(args)
    def __setstate__(self, state):
        self.text += ".set" + repr(state)
    def __repr__(self):
        return self.text

class Name(str):
    def __call__(self, *args):
        return Called(self, args)
    def __repr__(self):
        return str(self)

class Loader(pickle.Unpickler):
    def find_class(self, module, name):
        return Name(module + "." + name)

print(Loader(sys.stdin.buffer, encoding="bytes").load())
`;

test("a numpy array is pickled as calls of numpy's functions", async () => {
  const array = pickleArray("f4", [1, 2], new Uint8Array(Float32Array.of(1, -2).buffer));
  const python = spawnSync("python3", ["-c", PRINT_CALLS], { input: await pickle([array]), encoding: "utf8" });
  assert.equal(python.status, 0, python.stderr);
  const dtype = "numpy.dtype(b'f4', False, True).set(3, b'<', None, None, None, -1, -1, 0)";
  const state = `(1, (1, 2), ${dtype}, False, b'\\x00\\x00\\x80?\\x00\\x00\\x00\\xc0')`;
  assert.equal(python.stdout, `[numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b').set${state}]\n`);
});

test("a list is pickled item by item, in chunks", async () => {
  const longest = 200_000;
  let made = 0;
  async function* items(): AsyncGenerator<Picklable> {
    for (; made < 20_000; made++) yield "a".repeat(made === 10_000 ? longest : 100);
  }
  let madeAtFirstChunk: number | undefined;
  let total = 0;
  for await (const chunk of encodePickledList(items())) {
    madeAtFirstChunk ??= made;
    total += chunk.length;
    assert.ok(chunk.length < longest + 100_000);
  }
  assert.ok((madeAtFirstChunk as number) < 1000, `the first chunk came after ${madeAtFirstChunk} items`);
  assert.ok(total > 20_000 * 100 + longest);
});

test("rejects a lone surrogate and an int of 256 bytes", async () => {
  for (const value of ["\ud800", "a\udc00b", 2n ** 2047n]) {
    await assert.rejects(pickle([value]), (error) => error instanceof NextvladError && error.code === "BAD_FORMAT");
  }
  assert.deepEqual(loadInPython([await pickle([2n ** 2039n - 1n, "\u{1F600}"])]), [expectedInPython([2n ** 2039n - 1n, "\u{1F600}"])]);
});

/** Returns what this project's reader returns for a value: a number for an int if exact, and bytes for Python 2's `str`. */
function expectedOfReader(value: Picklable): unknown {
  if (typeof value === "bigint") return BigInt(Number(value)) === value && Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (value === null || typeof value !== "object") return value;
  if (value instanceof ByteString || value instanceof Bytes) return Buffer.from(value.bytes).toString("hex");
  if (value instanceof Tuple) return { tuple: value.items.map(expectedOfReader) };
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, expectedOfReader(item)]));
  return Array.from(value as Iterable<Picklable>, expectedOfReader);
}

function plain(value: PickledValue): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (value instanceof LazyString) return Buffer.from(value.utf8).toString("utf8");
  if (value instanceof Tuple) return { tuple: value.items.map(plain) };
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, plain(item)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

test("parsePickle reads what is written", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(arbitraryValue, { maxLength: 6 }), async (list) => {
      assert.deepEqual(plain(parsePickle(await pickle(list), "x.pkl")), expectedOfReader(list));
    }),
    { numRuns: 200 },
  );
});

test("rejects a pickle truncated at any byte", async () => {
  const whole = await pickle([
    "text",
    1.5,
    2n ** 70n,
    new Tuple(["a", new Map([["k", new Bytes(Uint8Array.of(200))]])]),
    Float32Array.of(1),
  ]);
  parsePickle(whole, "x.pkl");
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => parsePickle(whole.subarray(0, length), "x.pkl"), { code: "BAD_FORMAT" });
  }
});
