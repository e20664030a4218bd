import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { type ErrorCode, NextvladError } from "../../../src/base/errors.js";
import { looksLikePickle } from "../../../src/formats/pickle/detect.js";
import { parsePickle, readPickledItems } from "../../../src/formats/pickle/unpickler.js";
import { LazyString, NumpyArray, type PickledValue, Tuple } from "../../../src/formats/pickle/values.js";

interface Golden {
  readonly arrays: Readonly<Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly row_major: string }>>;
  readonly scalars: Readonly<Record<string, string>>;
  readonly files: Readonly<Record<string, string>>;
}

const golden = JSON.parse(readFileSync(new URL("../../../../test/golden/formats/pickles.json", import.meta.url), "utf8")) as Golden;
const goldenFiles = Object.entries(golden.files).map(([name, base64]): [string, Buffer] => [name, Buffer.from(base64, "base64")]);

function asDict(value: PickledValue | undefined): ReadonlyMap<string, PickledValue> {
  assert.ok(value instanceof Map);
  return value;
}

/** Returns a check that a pickle was rejected with this error. */
function refused(code: ErrorCode, pattern: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof NextvladError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

const parse = (text: string): PickledValue => parsePickle(Buffer.from(text, "latin1"), "x.pkl");

describe("numpy arrays and scalars", () => {
  for (const [name, bytes] of goldenFiles) {
    test(name, () => {
      assert.ok(looksLikePickle(bytes.subarray(0, 16)));
      const file = asDict(parsePickle(bytes, name));
      const arrays = asDict(file.get("arrays"));
      assert.deepEqual([...arrays.keys()], Object.keys(golden.arrays));
      for (const [key, expected] of Object.entries(golden.arrays)) {
        const array = arrays.get(key);
        assert.ok(array instanceof NumpyArray);
        assert.deepEqual([array.dtype, array.shape], [expected.dtype, expected.shape], key);
        assert.equal(Buffer.from(array.rowMajorBytes()).toString("base64"), expected.row_major, key);
      }
      const scalars = asDict(file.get("scalars"));
      const expected = Object.entries(golden.scalars).map(([key, text]): [string, PickledValue] => {
        if (text === "True") return [key, true];
        return [key, key === "large" ? BigInt(text) : Number(text)];
      });
      assert.deepEqual([...scalars], expected);
    });
  }

  test("an array stored as bytes is a view of the file's memory", () => {
    const [, bytes] = goldenFiles.find(([name]) => name.startsWith("protocol 4")) as [string, Buffer];
    const array = asDict(asDict(parsePickle(bytes, "x")).get("arrays")).get("matrix") as NumpyArray;
    assert.equal(array.bytes.buffer, bytes.buffer);
  });
});

/** Reads JSON [protocol, value] lines and prints each value's pickle in base64; `["bytes", base64]` and similar pairs encode types that JSON lacks. */
const WRITE_PICKLES = `
import base64, json, pickle, sys

def build(value):
    kind, content = value
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "int":
        return int(content)
    if kind == "float":
        return float(content)
    if kind == "list":
        return [build(item) for item in content]
    if kind == "tuple":
        return tuple(build(item) for item in content)
    if kind == "dict":
        return {key: build(item) for key, item in content}
    return content

for line in sys.stdin:
    protocol, value = json.loads(line)
    sys.stdout.write(base64.b64encode(pickle.dumps(build(value), protocol)).decode() + "\\n")
`;

type Described = readonly [kind: string, content: unknown];

const plain = fc.letrec<{ value: Described }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.constantFrom<Described>(["plain", null], ["plain", true], ["plain", false]),
    fc.string({ unit: "grapheme" }).map((text): Described => ["str", text]),
    fc.string({ unit: fc.integer({ min: 0, max: 0xff }).map((code) => String.fromCharCode(code)) }).map((text): Described => ["str", text]),
    fc.uint8Array({ maxLength: 300 }).map((bytes): Described => ["bytes", Buffer.from(bytes).toString("base64")]),
    fc
      .oneof(fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }), fc.bigInt({ min: -70000n, max: 70000n }))
      .map((n): Described => ["int", String(n)]),
    fc.double().map((n): Described => ["float", String(n).replace("Infinity", "inf")]),
    fc.array(tie("value"), { maxLength: 6 }).map((items): Described => ["list", items]),
    fc.array(tie("value"), { maxLength: 5 }).map((items): Described => ["tuple", items]),
    fc
      .uniqueArray(fc.tuple(fc.string({ unit: "grapheme" }), tie("value")), { maxLength: 5, selector: ([key]) => key })
      .map((items): Described => ["dict", items]),
  ),
})).value;

function expectedHere([kind, content]: Described): PickledValue {
  if (kind === "bytes") return Uint8Array.from(Buffer.from(content as string, "base64"));
  if (kind === "float") return Number((content as string).replace("inf", "Infinity"));
  if (kind === "int") return Number.isSafeInteger(Number(content)) ? Number(content) : BigInt(content as string);
  if (kind === "list") return (content as Described[]).map(expectedHere);
  if (kind === "tuple") return new Tuple((content as Described[]).map(expectedHere));
  if (kind === "dict") return new Map((content as [string, Described][]).map(([key, value]) => [key, expectedHere(value)]));
  return content as PickledValue;
}

/** Replaces views of Buffers with plain Uint8Arrays, because deepEqual distinguishes them. */
function normalise(value: PickledValue): PickledValue {
  if (value instanceof Uint8Array) return Uint8Array.from(value);
  if (Array.isArray(value)) return value.map(normalise);
  if (value instanceof Tuple) return new Tuple(value.items.map(normalise));
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, normalise(item)]));
  return value;
}

const hasPython = spawnSync("python3", ["--version"]).status === 0;

test("reads what Python pickles, in every protocol", { skip: !hasPython && "python3 is missing" }, () => {
  const values = fc.sample(plain, { numRuns: 300, seed: 11 });
  const cases = values.flatMap((value) => [0, 1, 2, 3, 4, 5].map((protocol) => [protocol, value] as const));
  const input = `${cases.map((each) => JSON.stringify(each)).join("\n")}\n`;
  const python = spawnSync("python3", ["-c", WRITE_PICKLES], { input, encoding: "utf8", maxBuffer: 1 << 28 });
  assert.equal(python.status, 0, python.stderr);
  const pickles = python.stdout.trimEnd().split("\n");
  assert.equal(pickles.length, cases.length);
  for (const [i, [protocol, value]] of cases.entries()) {
    const read = normalise(parsePickle(Buffer.from(pickles[i] as string, "base64"), "x.pkl"));
    assert.deepEqual(read, expectedHere(value), `protocol ${protocol}: ${JSON.stringify(value)}`);
  }
});

test("reads bytes stored as text longer than a piece of the transcoder", { skip: !hasPython && "python3 is missing" }, () => {
  const script =
    "import pickle, sys; sys.stdout.buffer.write(pickle.dumps([bytes(i * i // 7 % 256 for i in range(3000001)), 'é' * 700000], 2))";
  const bytes = spawnSync("python3", ["-c", script], { maxBuffer: 1 << 28 }).stdout;
  const [read, text] = parsePickle(bytes, "x.pkl") as PickledValue[];
  assert.ok(read instanceof Uint8Array);
  assert.deepEqual(
    read,
    Uint8Array.from({ length: 3000001 }, (_, i) => Math.floor((i * i) / 7) % 256),
  );
  assert.ok(text instanceof LazyString && text.utf8.length === 1400000);
});

test("rejects bytes stored as long text that is not UTF-8", () => {
  for (const wrong of ["\xff", "\xc3", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80"]) {
    const text = `${"\xc3\xa9".repeat(2500)}${wrong}a`;
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    const pickle = `\x80\x02c_codecs\nencode\nX${length.toString("latin1")}${text}X\x06\0\0\0latin1\x86R.`;
    assert.throws(() => parse(pickle), refused("BAD_FORMAT", /invalid UTF-8/));
  }
});

describe("hostile pickles", () => {
  test("rejects other globals at their byte, with every opcode", () => {
    const where = (at: number) => new RegExp(`x.pkl, byte ${at}: .*nothing of this one was run`, "s");
    for (const [pickle, name, at] of [
      ["cos\nsystem\n(S'echo'\ntR.", "os.system", 0],
      ["\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system", 14],
      ["(ios\nsystem\n.", "os.system", 1],
      ["]cnumpy\nload\n.", "numpy.load", 1],
      ["c_codecs\ndecode\n.", "_codecs.decode", 0],
      ["c__builtin__\neval\n.", "__builtin__.eval", 0],
      ["cnumpy.core.multiarray\n__proto__\n.", "numpy.core.multiarray.__proto__", 0],
      ["ccollections\nOrderedDict.__init__\n.", "collections.OrderedDict.__init__", 0],
    ] as const) {
      assert.throws(() => parse(pickle), refused("UNSAFE_PICKLE", where(at)));
      assert.throws(() => parse(pickle), refused("UNSAFE_PICKLE", new RegExp(name.replaceAll(".", "\\."))));
    }
  });

  test("shortens the name of a rejected global", () => {
    for (const pickle of [`c${"m".repeat(1e6)}\nname\n.`, `cnumpy\ndtype\nS'${"f".repeat(1e6)}'\n\x85R.`]) {
      assert.throws(
        () => parse(pickle),
        (error) => error instanceof NextvladError && error.message.length < 600,
      );
    }
  });

  test("rejects opcodes of objects, sets, extensions and persistent objects", () => {
    for (const opcode of ["\x81", "\x92", "o", "\x82\x01", "Pid\n", "Q", "\x8f", "\x91", "\x97"]) {
      assert.throws(() => parse(`]${opcode}.`), refused("BAD_FORMAT", /unsupported opcode/));
    }
  });

  test("rejects lengths that exceed the file", () => {
    for (const [pickle, pattern] of [
      ["X\xff\xff\xff\xff", /expected 4294967295 more bytes, found 0/],
      ["\x8e\0\0\0\0\0\0\0\x10abc", /expected 1152921504606847000 more bytes, found 3/],
      ["\x95\0\0\0\0\0\0\0\x10.", /a frame of 1152921504606847000 bytes/],
      ["\x8b\xff\xff\xff\x7f", /an int of 2147483647 bytes is too long/],
      ["I123", /expected a newline, found none/],
      ["", /more bytes, found 0/],
    ] as const) {
      assert.throws(() => parse(pickle), refused("BAD_FORMAT", pattern));
    }
  });

  test("rejects pickles that would exhaust the memory", () => {
    const text = `X\0\0\x10\0${"a".repeat(1 << 20)}`;
    const decode = "c_codecs\nencode\nq\x02h\x01X\x06\0\0\0latin1\x86R";
    assert.throws(() => parse(`${text}q\x01${`(${decode}`.repeat(3)}t.`), refused("BAD_FORMAT", /decoded text is longer than the file/));
    assert.throws(() => parse("]r\xff\xff\xff\x7f."), refused("BAD_FORMAT", /memo index 2147483647 after/));
    assert.throws(() => parse("N".repeat(5_000_000)), refused("BAD_FORMAT", /more than 4194304 values on the stack/));
    assert.throws(() => parse("(".repeat(5_000_000)), refused("BAD_FORMAT", /marks on the stack/));
    assert.throws(() => parse(`](${"]".repeat(1_000_000)}e(`.repeat(9)), refused("BAD_FORMAT", /more than 8388608 lists/));
  });

  test("reads a list that contains itself", () => {
    const list = parse("]q\0h\0a.") as PickledValue[];
    assert.equal(list[0], list);
    const [depth, inner] = [100_000, parse(`${"]".repeat(100_001)}${"a".repeat(100_000)}.`)];
    let value = inner;
    for (let i = 0; i < depth; i++) value = (value as PickledValue[])[0] as PickledValue;
    assert.deepEqual(value, []);
  });
});

test("reports the byte of an invalid operation", () => {
  for (const [pickle, pattern] of [
    [".", /byte 0: .*missing value on the stack/],
    ["(.", /missing value on the stack/],
    ["]]a]", /more bytes/],
    ["]].", /values left on the stack/],
    ["]t.", /missing mark on the stack/],
    ["h\x05.", /memo entry 5 not found/],
    ["K\x01]a.", /appends to a value that is not a list/],
    ["}K\x01K\x02s.", /dict key is neither str nor bytes/],
    ["}(K\x01u.", /a dict key has no value/],
    ["K\x01)R.", /calls a value that is not a function/],
    ["]Nb.", /sets the state of a value that is neither/],
    ["\x80\x06.", /unsupported protocol 6/],
    ["\xff.", /unknown opcode 0xff/],
    ["X\x01\0\0\0\xff.", /invalid text/],
    ["Fabc\n.", /invalid float/],
    ["Sabc\n.", /invalid string literal/],
    ["V\\u12\n.", /invalid text/],
    ["N.N", /1 bytes after its end/],
    ["cnumpy\ndtype\n(U\x02O8tR.", /unsupported array dtype "O8"/],
    ["cnumpy\nndarray\n)R.", /calls numpy\.ndarray directly/],
  ] as const) {
    assert.throws(() => parse(pickle), refused("BAD_FORMAT", pattern), pickle);
  }
});

test("corrupt pickles give a value or NextvladError, never another error", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...goldenFiles),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 6 }),
      fc.option(fc.nat(), { freq: 3 }),
      ([name, bytes], edits, cut) => {
        const damaged = Uint8Array.from(bytes.subarray(0, cut === null ? bytes.length : cut % bytes.length));
        for (const [at, byte] of edits) if (damaged.length > 0) damaged[at % damaged.length] = byte;
        try {
          parsePickle(damaged, name);
        } catch (error) {
          assert.ok(error instanceof NextvladError, String(error));
        }
      },
    ),
    { numRuns: 1500 },
  );
});

test("random bytes give a value or NextvladError, never another error", () => {
  const opcodes = "().012FGIJKLMNRSTUVX]abcdeghijloqprstu}\x80\x85\x86\x87\x88\x89\x8a\x8c\x94\x95\n'\\u0x";
  const program = fc.array(
    fc.oneof(
      fc.constantFrom(...opcodes),
      fc.nat({ max: 255 }).map((code) => String.fromCharCode(code)),
    ),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(program, (characters) => {
      try {
        parse(characters.join(""));
      } catch (error) {
        assert.ok(error instanceof NextvladError, String(error));
      }
    }),
    { numRuns: 5000 },
  );
});

const folder = mkdtempSync(join(tmpdir(), "items-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "x.pkl");

function pickle(expression: string, protocol: number): Buffer {
  const run = spawnSync("python3", ["-c", `import pickle, sys; sys.stdout.buffer.write(pickle.dumps(${expression}, ${protocol}))`], {
    maxBuffer: 1 << 28,
  });
  assert.equal(run.status, 0, run.stderr.toString());
  return run.stdout;
}

function read(bytes: Uint8Array): PickledValue[] {
  writeFileSync(path, bytes);
  return [...readPickledItems(path)];
}

test("reads a list item by item like the whole list, in every protocol", { skip: !hasPython && "python3 is missing" }, () => {
  // More than one window of the file, with text across a window boundary, and text that items share.
  const many = "[('video %d' % i, [i / 7, 0.5], [i, 3], 'shared', b'bytes') for i in range(30000)]";
  for (const protocol of [0, 1, 2, 3, 4, 5]) {
    for (const expression of [many, "[]", "[[]]", "[1]", "['x' * 3000000, (), {}]"]) {
      const bytes = pickle(expression, protocol);
      assert.deepEqual(read(bytes), parsePickle(Uint8Array.from(bytes), "x"), `${expression}, protocol ${protocol}`);
    }
  }
});

test("rejects items that share a list, a pickle that is not a list, and trailing bytes", () => {
  const cases: readonly [string, RegExp][] = [
    ["]q\0(]q\x01h\x01e.", /^$/],
    ["]q\0]q\x01ah\x01a.", /a list item refers to a part of an earlier item/],
    ["]q\0h\0ah\0a.", /a list item refers to a part of an earlier item/],
    ["K\x01.", /expected a list/],
    ["K\x01]K\x01a.", /values left on the stack/],
    ["]K\x01a.K", /1 bytes after its end/],
    ["]K\x01a", /expected 1 more bytes, found 0/],
    ["]K\x01acos\nsystem\n.", /os\.system/],
    ["", /expected 1 more bytes, found 0/],
  ];
  for (const [content, message] of cases) {
    if (message.source === "^$") assert.deepEqual(read(Buffer.from(content, "latin1")), [[], []]);
    else assert.throws(() => read(Buffer.from(content, "latin1")), { name: "NextvladError", message });
  }
  assert.throws(() => [...readPickledItems(join(folder, "none"))], { code: "FILE_MISSING" });
  assert.throws(() => [...readPickledItems(folder)], { code: "FILE_UNREADABLE" });
});

test("a corrupt list gives items or NextvladError", { skip: !hasPython && "python3 is missing" }, () => {
  const whole = pickle("[('v%d' % i, [0.5, i], [i, 3]) for i in range(5)]", 2);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
      const damaged = Buffer.from(whole);
      for (const [at, value] of changes) damaged[at] = value;
      let items: PickledValue[] | undefined;
      try {
        items = read(damaged);
      } catch (error) {
        assert.ok(error instanceof NextvladError && ["BAD_FORMAT", "UNSAFE_PICKLE"].includes(error.code), String(error));
        return;
      }
      assert.equal(
        items.some((item) => item instanceof Tuple && item.items.length > 1000),
        false,
      );
    }),
    { numRuns: 300 },
  );
});
