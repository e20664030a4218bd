import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { readPickledItems } from "../../src/formats/pickle-items.js";
import { parsePickle } from "../../src/formats/pickle-reader.js";
import { PickledTuple, type PickledValue } from "../../src/formats/pickle-values.js";

const folder = mkdtempSync(join(tmpdir(), "items-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "x.pkl");
const hasPython = spawnSync("python3", ["--version"]).status === 0;

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

test("the items are those of the whole list, in every protocol", { skip: !hasPython && "python3 is missing" }, () => {
  // More than one window of the file, with text across a window boundary, and text that items share.
  const many = "[('video %d' % i, [i / 7, 0.5], [i, 3], 'shared', b'bytes') for i in range(30000)]";
  for (const protocol of [0, 1, 2, 3, 4, 5]) {
    for (const expression of [many, "[]", "[[]]", "[1]", "['x' * 3000000, (), {}]"]) {
      const bytes = pickle(expression, protocol);
      assert.deepEqual(read(bytes), parsePickle(Uint8Array.from(bytes), "x"), `${expression}, protocol ${protocol}`);
    }
  }
});

test("items that share a list, what is no list, and what follows it are refused", () => {
  const cases: readonly [string, RegExp][] = [
    ["]q\0(]q\x01h\x01e.", /^$/],
    ["]q\0]q\x01ah\x01a.", /an item of the list refers to a part of an earlier one/],
    ["]q\0h\0ah\0a.", /an item of the list refers to a part of an earlier one/],
    ["K\x01.", /it is no list/],
    ["K\x01]K\x01a.", /values left over/],
    ["]K\x01a.K", /1 bytes follow its end/],
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

test("damage is told where it is, or is as readable as before", { skip: !hasPython && "python3 is missing" }, () => {
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
        items.some((item) => item instanceof PickledTuple && item.items.length > 1000),
        false,
      );
    }),
    { numRuns: 300 },
  );
});
