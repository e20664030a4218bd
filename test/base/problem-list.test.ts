import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ErrorDetails, NextvladError } from "../../src/base/errors.js";
import { groupErrors, joinErrors, listFirst } from "../../src/base/problem-list.js";

const error = (what: string, details: ErrorDetails): NextvladError => new NextvladError("BAD_VIDEO", what, details);
const messages = (errors: readonly NextvladError[]): readonly string[] => groupErrors(errors).map(({ message }) => message);

test("a list shows the first three and counts the others", () => {
  assert.equal(listFirst([]), "");
  assert.equal(listFirst(["a", "b", "c"]), "a, b, c");
  assert.equal(listFirst(["a", "b", "c", "d"]), "a, b, c and 1 more");
  assert.equal(listFirst(["a", "b"], { total: 9 }), "a, b and 7 more");
  assert.equal(listFirst(["a", "b", "c", "d"], { separator: "; ", shown: 2 }), "a; b; and 2 more");
});

describe("errors that differ only in their location", () => {
  test("are merged into one with their common details and three locations", () => {
    const records = Array.from({ length: 250 }, (_, record) =>
      error("wrong size", { file: "a", record, byteOffset: 12 + 3 * record, expected: 8, found: 4, remedy: "set it" }),
    );
    assert.deepEqual(messages(records), [
      "a: wrong size (expected 8, found 4), 250 times: record 0, byte 12; record 1, byte 15; record 2, byte 18; and 247 more. Set it.",
    ]);
  });

  test("list differing values with their locations, one of each file first", () => {
    const errors = [1, 2, 3].flatMap((record) =>
      ["a", "b"].map((file) => error("bad label", { file, record, expected: "0 to 5", found: record + 5 })),
    );
    assert.deepEqual(messages(errors), [
      "bad label (expected 0 to 5), 6 times in 2 files: a, record 1 (found 6); b, record 1 (found 6); a, record 2 (found 7); and 3 more.",
    ]);
  });

  test("in different files keep their whole locations, even if record numbers are equal", () => {
    const errors = ["a", "b"].map((file) => error("no frames", { file, record: 0, video: "v" }));
    assert.deepEqual(messages(errors), ["no frames, 2 times: a, record 0, video v; b, record 0, video v."]);
  });

  test("without a location are counted", () => {
    assert.deepEqual(messages([error("x", {}), error("x", {})]), ["x, 2 times."]);
  });

  test("are not merged if code, text or remedy differ; a single error is unchanged", () => {
    const [a, b, c] = [error("x", { file: "a" }), error("y", { file: "a" }), error("x", { file: "b", remedy: "z" })];
    assert.deepEqual(messages([a, b, c, new NextvladError("BAD_LABELS", "x", {})]), ["a: x.", "a: y.", "b: x. Z.", "x."]);
  });
});

test("several kinds of problems become one error that lists them; a single kind keeps its code", () => {
  const errors = [error("x", { file: "a" }), error("x", { file: "b" }), error("y", { file: "a" })];
  const joined = joinErrors(errors, "NOT_READY", (count) => `${count} problems`);
  assert.deepEqual([joined.code, joined.message], ["NOT_READY", "3 problems: (1) x, 2 times: a; b. (2) a: y."]);
  assert.equal(joinErrors(errors.slice(0, 2), "NOT_READY", String).code, "BAD_VIDEO");
});
