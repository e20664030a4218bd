import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { Bytes, encodePickledDict, encodePickledList, NumpyArray, type PickleValue, Tuple } from "../../src/formats/pickle-writer.js";

/**
 * Loads the pickles on stdin one after another and prints each as nested [type, value], floats by their bits. What stands for numpy here
 * takes what numpy itself takes (numpy/core/src/multiarray/methods.c, array_setstate, and descriptor.c, arraydescr_setstate).
 */
const PRINT_PICKLES = `
import codecs, json, pickle, struct, sys

class ndarray:
    def __setstate__(self, state):
        version, shape, dtype, is_fortran, data = state
        assert version == 1 and is_fortran is False and type(data) is bytes and type(dtype) is numpy_dtype
        self.value = [dtype.order + dtype.code, list(shape), data.hex()]

class numpy_dtype:
    def __init__(self, code, align, copy):
        self.code = code
        assert (align, copy) == (False, True)

    def __setstate__(self, state):
        self.order = state[1]
        assert state == (3, state[1], None, None, None, -1, -1, 0)

def reconstruct(kind, shape, code):
    assert kind is ndarray and shape == (0,) and code == b"b"
    return ndarray()

GLOBALS = {
    "numpy ndarray": ndarray,
    "numpy dtype": numpy_dtype,
    "numpy.core.multiarray _reconstruct": reconstruct,
    "_codecs encode": codecs.encode,
}

class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return GLOBALS[module + " " + name]

def describe(value):
    name = type(value).__name__
    if isinstance(value, ndarray):
        return [name, value.value]
    if isinstance(value, dict):
        return [name, [describe(item) for item in value.items()]]
    if isinstance(value, bytes):
        return [name, value.hex()]
    if isinstance(value, (list, tuple)):
        return [name, [describe(item) for item in value]]
    if isinstance(value, float):
        return [name, struct.pack(">d", value).hex()]
    if isinstance(value, str):
        return [name, value]
    return [name, str(value)]

sys.stdin = sys.stdin.buffer
while sys.stdin.peek(1):
    print(json.dumps(describe(Unpickler(sys.stdin, **json.loads(sys.argv[1])).load())))
`;

type Described = readonly [
  type: string,
  value: string | readonly Described[] | readonly [descr: string, shape: readonly number[], hex: string],
];

function describeFloat(value: number): Described {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return ["float", bytes.toString("hex")];
}

/** What Python should print for a value: the types of `PickleValue`, said once more. */
function expectedInPython(value: PickleValue): Described {
  if (value === null) return ["NoneType", "None"];
  if (value === true) return ["bool", "True"];
  if (value === false) return ["bool", "False"];
  if (typeof value === "number") return describeFloat(value);
  if (typeof value === "bigint") return ["int", String(value)];
  if (typeof value === "string") return ["str", value];
  if (value instanceof Tuple) return ["tuple", value.items.map(expectedInPython)];
  if (value instanceof Bytes) return ["bytes", Buffer.from(value.value).toString("hex")];
  if (value instanceof NumpyArray) return ["ndarray", [descrOf(value.data), value.shape, hexOf(value.data)]];
  if (value instanceof Map) return ["dict", Array.from(value, ([key, item]) => ["tuple", [expectedInPython(key), expectedInPython(item)]])];
  if (value instanceof Float32Array || value instanceof Float64Array) return ["list", Array.from(value, describeFloat)];
  if (ArrayBuffer.isView(value)) return ["list", Array.from(value as Iterable<number | bigint>, (item) => ["int", String(item)])];
  return ["list", Array.from(value as Iterable<PickleValue>, expectedInPython)];
}

function descrOf(data: NumpyArray["data"]): string {
  const kind = data instanceof Float32Array || data instanceof Float64Array ? "f" : data instanceof Uint8Array ? "u" : "i";
  return `${kind === "u" ? "|" : "<"}${kind}${data.BYTES_PER_ELEMENT}`;
}

const hexOf = (data: NumpyArray["data"]): string => Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");

async function join(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

const pickle = (items: Iterable<PickleValue> | AsyncIterable<PickleValue>): Promise<Buffer> => join(encodePickledList(items));

function loadInPython(pickles: readonly Buffer[], keywords: Readonly<Record<string, string>> = {}): Described[] {
  const python = spawnSync("python3", ["-c", PRINT_PICKLES, JSON.stringify(keywords)], {
    input: Buffer.concat(pickles),
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  assert.equal(python.status, 0, python.stderr);
  return python.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Described);
}

const arbitraryData: fc.Arbitrary<NumpyArray["data"]> = fc.oneof(
  fc.float32Array({ maxLength: 40 }),
  fc.float64Array({ maxLength: 40 }),
  fc.int32Array({ maxLength: 40 }),
  fc.bigInt64Array({ maxLength: 40 }),
  fc.uint8Array({ maxLength: 40 }),
);

const arbitraryArray = arbitraryData.chain((data) => {
  const shapes = [[data.length], [1, data.length, 1], [data.length, 1], ...(data.length % 3 === 0 ? [[3, data.length / 3]] : [])];
  return fc.constantFrom(...shapes).map((shape) => new NumpyArray(shape, data));
});

const arbitraryValue: fc.Arbitrary<PickleValue> = fc.letrec<{ value: PickleValue }>((tie) => ({
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
    fc.array(tie("value"), { maxLength: 4 }),
    fc.array(tie("value"), { maxLength: 4 }).map((items) => new Tuple(...items)),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => new Bytes(bytes)),
    fc.dictionary(fc.string(), tie("value"), { maxKeys: 4 }).map((entries) => new Map(Object.entries(entries))),
    arbitraryArray,
  ),
})).value;

describe("Python loads", () => {
  test("any value, with its type", async () => {
    const lists = fc.sample(fc.array(arbitraryValue, { maxLength: 6 }), 300);
    const found = loadInPython(await Promise.all(lists.map(pickle)));
    assert.deepEqual(found, lists.map(expectedInPython));
  });

  test("ints on either side of every length's edge", async () => {
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

test("arrays, bytes and dicts load alike with every encoding that Paddle's and PaddleVideo's loaders name", async () => {
  const record = new Map<PickleValue, PickleValue>([
    [
      new Bytes(Buffer.from("feature")),
      new NumpyArray(
        [2, 128],
        Uint8Array.from({ length: 256 }, (_, i) => i),
      ),
    ],
    [new Bytes(Buffer.from("label")), [3n, 5n]],
    ["weights", new NumpyArray([], Float32Array.of(-0.1))],
  ]);
  const bytes = await pickle([record]);
  for (const keywords of [{}, { encoding: "latin1" }, { encoding: "bytes" }]) {
    assert.deepEqual(loadInPython([bytes], keywords), [expectedInPython([record])]);
  }
});

test("a dict is pickled entry by entry, a large array piece by piece", async () => {
  const entries = Array.from({ length: 2500 }, (_, i): [string, PickleValue] => [`variable ${i}`, BigInt(i)]);
  assert.deepEqual(loadInPython([await join(encodePickledDict(entries))]), [expectedInPython(new Map(entries))]);
  assert.deepEqual(loadInPython([await join(encodePickledDict([]))]), [expectedInPython(new Map())]);

  const large = new NumpyArray(
    [3, 4_000_000],
    Uint8Array.from({ length: 12_000_000 }, (_, i) => (i * 7) % 251),
  );
  let total = 0;
  for await (const chunk of encodePickledDict([["large", large]])) {
    assert.ok(chunk.length < 9_000_000, `a chunk of ${chunk.length} bytes`);
    total += chunk.length;
  }
  assert.ok(total > 12_000_000);
  assert.deepEqual(loadInPython([await pickle([large])]), [expectedInPython([large])]);
});

test("an array whose data do not fit its shape is refused", async () => {
  await assert.rejects(
    pickle([new NumpyArray([2, 3], new Float32Array(5))]),
    (error) => error instanceof NextvladError && error.code === "BAD_FORMAT" && /6 values for \[2, 3\]/.test(error.message),
  );
});

test("a list is pickled item by item, in chunks", async () => {
  const longest = 200_000;
  let made = 0;
  async function* items(): AsyncGenerator<PickleValue> {
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

test("half a surrogate pair and an int of 256 bytes are refused", async () => {
  for (const value of ["\ud800", "a\udc00b", 2n ** 2047n]) {
    await assert.rejects(pickle([value]), (error) => error instanceof NextvladError && error.code === "BAD_FORMAT");
  }
  assert.deepEqual(loadInPython([await pickle([2n ** 2039n - 1n, "\u{1F600}"])]), [expectedInPython([2n ** 2039n - 1n, "\u{1F600}"])]);
});
