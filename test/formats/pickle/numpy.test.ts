import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type PickledDtype, pickleArray, pickleArrayPortably } from "../../../src/formats/pickle/numpy.js";
import { encodePickledDict } from "../../../src/formats/pickle/pickler.js";
import { parsePickle } from "../../../src/formats/pickle/unpickler.js";
import { NumpyArray, type Picklable } from "../../../src/formats/pickle/values.js";
import { needsPython, runPython } from "../../helpers/python.js";

/**
 * Loads the pickled dict on stdin like Python's `pickle.load` with the given keywords, and prints the state that numpy would get for each array.
 * The stub of numpy accepts bytes for text in dtypes and in `_reconstruct`, like numpy does for pickles of Python 2.
 */
const LOAD_ARRAYS = `
import codecs, hashlib, json, pickle, sys

def text(value):
    return value.decode() if isinstance(value, bytes) else value

class Array:
    def __setstate__(self, state):
        version, shape, dtype, is_fortran, data = state
        assert version == 1 and is_fortran is False and type(data) is bytes
        self.value = [dtype.order + dtype.code, list(shape), hashlib.sha1(data).hexdigest()]

class Dtype:
    def __init__(self, code, align, copy):
        assert (align, copy) == (False, True)
        self.code = text(code)

    def __setstate__(self, state):
        self.order = text(state[1])
        assert state == (3, state[1], None, None, None, -1, -1, 0)

def reconstruct(kind, shape, code):
    assert kind is Array and shape == (0,) and text(code) == "b"
    return Array()

class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return {
            "numpy.ndarray": Array,
            "numpy.dtype": Dtype,
            "numpy.core.multiarray._reconstruct": reconstruct,
            "_codecs.encode": codecs.encode,
        }[module + "." + name]

loaded = Unpickler(sys.stdin.buffer, **json.loads(sys.argv[1])).load()
json.dump([[name, getattr(value, "value", value)] for name, value in loaded.items()], sys.stdout)
`;

async function join(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

async function sha1(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await crypto.subtle.digest("SHA-1", bytes.slice())).toString("hex");
}

test("portable arrays load without an encoding and with any encoding that Paddle's loaders use", needsPython, async () => {
  // Every byte value, no bytes at all, and more than one piece of Latin-1 text.
  const arrays = [
    { name: "bytes", shape: [2, 128], data: Uint8Array.from({ length: 256 }, (_, i) => i) },
    { name: "empty", shape: [0, 3], data: new Uint8Array(0) },
    { name: "large", shape: [3, 4_000_000], data: Uint8Array.from({ length: 12_000_000 }, (_, i) => (i * 7) % 251) },
  ];
  async function* entries(): AsyncGenerator<readonly [string, Picklable]> {
    for (const { name, shape, data } of arrays) yield [name, pickleArrayPortably("u1", shape, data)];
    yield ["last", 1n];
  }
  const pickled = await join(encodePickledDict(entries()));
  const expected = await Promise.all(arrays.map(async ({ name, shape, data }) => [name, ["|u1", shape, await sha1(data)]]));
  for (const keywords of [{}, { encoding: "latin1" }, { encoding: "bytes" }]) {
    assert.deepEqual(runPython(LOAD_ARRAYS, [JSON.stringify(keywords)], pickled), [...expected, ["last", 1]]);
  }
});

test("consecutive entries of a dict may use the same memory", needsPython, async () => {
  const shared = new Uint8Array(100_000);
  const sizes = [10, 100_000, 40_000, 5];
  async function* entries(): AsyncGenerator<readonly [string, Picklable]> {
    for (const [i, size] of sizes.entries()) {
      shared.fill(200 + i);
      yield [`array ${i}`, pickleArrayPortably("u1", [size], shared.subarray(0, size))];
    }
  }
  const expected = await Promise.all(
    sizes.map(async (size, i) => [`array ${i}`, ["|u1", [size], await sha1(new Uint8Array(size).fill(200 + i))]]),
  );
  // Copy each chunk when it arrives, as a write to a file does.
  const chunks: Buffer[] = [];
  for await (const chunk of encodePickledDict(entries())) chunks.push(Buffer.from(chunk));
  assert.deepEqual(runPython(LOAD_ARRAYS, ["{}"], Buffer.concat(chunks)), expected);
});

test("reads back arrays in both forms", async () => {
  const dtype = fc.constantFrom<PickledDtype>("u1", "f4", "f8", "i4", "i8");
  await fc.assert(
    fc.asyncProperty(
      dtype,
      fc.array(fc.nat(5), { maxLength: 4 }),
      fc.uint8Array({ minLength: 5000, maxLength: 5000 }),
      async (kind, shape, bytes) => {
        const size = shape.reduce((product, side) => product * side, Number(kind[1]));
        const data = bytes.subarray(0, size);
        async function* entries(): AsyncGenerator<[Picklable, Picklable]> {
          yield ["a", pickleArray(kind, shape, data)];
          yield ["b", pickleArrayPortably(kind, shape, data)];
        }
        const read = parsePickle(await join(encodePickledDict(entries())), "x.pkl");
        assert.ok(read instanceof Map && read.size === 2);
        for (const array of read.values()) {
          assert.ok(array instanceof NumpyArray);
          assert.deepEqual([array.dtype, array.shape, Buffer.from(array.rowMajorBytes())], [kind, shape, Buffer.from(data)]);
        }
      },
    ),
    { numRuns: 100 },
  );
});
