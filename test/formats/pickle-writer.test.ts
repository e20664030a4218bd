import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { encodePickledList, type PickleValue, Tuple } from "../../src/formats/pickle-writer.js";

/** Loads the pickles on stdin one after another and prints each as nested [type, value], floats by their bits. */
const PRINT_PICKLES = `
import json, pickle, struct, sys

def describe(value):
    name = type(value).__name__
    if isinstance(value, (list, tuple)):
        return [name, [describe(item) for item in value]]
    if isinstance(value, float):
        return [name, struct.pack(">d", value).hex()]
    if isinstance(value, str):
        return [name, value]
    return [name, str(value)]

sys.stdin = sys.stdin.buffer
while sys.stdin.peek(1):
    print(json.dumps(describe(pickle.load(sys.stdin))))
`;

type Described = readonly [type: string, value: string | readonly Described[]];

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
  if (value instanceof Float32Array || value instanceof Float64Array) return ["list", Array.from(value, describeFloat)];
  if (ArrayBuffer.isView(value)) return ["list", Array.from(value as Iterable<number | bigint>, (item) => ["int", String(item)])];
  return ["list", Array.from(value, expectedInPython)];
}

async function pickle(items: Iterable<PickleValue> | AsyncIterable<PickleValue>): Promise<Buffer> {
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
