import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NextvladError, serializeError } from "../../src/base/errors.js";
import { escapeJson, escapeLine, escapeText, showChoices, showMessage, showPath, showText, showValue } from "../../src/base/shown-value.js";

/** Inclusive ranges of code points that must never be printed, from the Unicode charts. */
const UNSAFE_RANGES = [
  [0x00, 0x1f], // C0
  [0x7f, 0x9f], // DEL, C1
  [0xad, 0xad], // soft hyphen
  [0x61c, 0x61c], // Arabic letter mark
  [0x180e, 0x180e], // Mongolian vowel separator
  [0x200b, 0x200f], // zero-width characters, left-to-right and right-to-left mark
  [0x2028, 0x202e], // line and paragraph separator, embeddings and overrides
  [0x2060, 0x2064], // word joiner, invisible operators
  [0x2066, 0x206f], // isolates, deprecated format characters
  [0xd800, 0xdfff], // lone surrogates
  [0xfeff, 0xfeff], // byte order mark
  [0xfff9, 0xfffb], // interlinear annotation
  [0xe0001, 0xe0001], // language tag
  [0xe0020, 0xe007f], // tags
] as const;
const unsafe = UNSAFE_RANGES.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => String.fromCodePoint(from + i)));

describe("escapeText", () => {
  test("replaces each unsafe character by printable ASCII, and only these", () => {
    for (const character of unsafe)
      assert.match(escapeText(`a${character}b`), /^a\\[\x21-\x7e]+b$/, `U+${character.codePointAt(0)?.toString(16)}`);
    const safe = "a \\ ' \" ~ é ü \u00a0 日本語 עברית العربية हिन्दी 😀 ❤️ \ufffd █";
    assert.equal(escapeText(safe), safe);
  });

  test("names the character, so that it can be recognized; escaped text does not change", () => {
    const escaped = "\\n\\r\\t\\x00\\x1B\\x7F\\u009B\\u202E\\uFEFF\\u{E0041}\\xFF\\xED\\xA0\\x80";
    assert.equal(escapeText("\n\r\t\0\u001b\u007f\u009b\u202e\ufeff\u{e0041}\udcff\ud800"), escaped);
    assert.equal(escapeText(escaped), escaped);
  });

  test("keeps tabs in a line", () => {
    assert.equal(escapeLine("a\tb\nc"), "a\tb\\nc");
  });
});

test("JSON is escaped without a change of its value", () => {
  const value = { [unsafe.join("x")]: [unsafe.join("y"), "é", 1] };
  const text = escapeJson(JSON.stringify(value, null, 1));
  assert.match(text, /^[\n\x20-\x7eé]*$/);
  assert.deepEqual(JSON.parse(text), value);
});

describe("text in a message", () => {
  test("is shortened in the middle and followed by its length if it is long", () => {
    assert.equal(showText("x".repeat(80)), "x".repeat(80));
    assert.equal(showText(`a${"x".repeat(1_000_000)}z`), `a${"x".repeat(59)}...${"x".repeat(19)}z (1000002 characters)`);
    assert.equal(showText(showText("x".repeat(2000), 1000)), `${"x".repeat(60)}...${"x".repeat(20)} (2000 characters)`);
    assert.equal(showText("0123456789", 8), "012345...89 (10 characters)");
    assert.equal(showPath(`/${"x".repeat(900)}`).length, 901);
    assert.match(showPath(`/${"x".repeat(5000)}/name`), /^\/x{749}\.\.\.x+\/name \(5006 characters\)$/);
  });

  test("keeps characters outside the BMP whole", () => {
    assert.equal(showText("😀".repeat(100), 10), "😀😀😀😀...😀 (200 characters)");
    assert.equal(showText(`${"😀".repeat(100)}x`, 10), "😀😀😀😀...x (201 characters)");
  });

  test("of several lines becomes one line, of at most 8000 characters", () => {
    assert.equal(showMessage("first\r\n  second\n\n\u001bthird\n"), "first second \\x1Bthird");
    assert.match(showMessage("x".repeat(1_000_000)), /^x{6000}\.\.\.x{2000} \(1000000 characters\)$/);
  });

  test("is escaped and shortened by the error itself, in every field", () => {
    const hostile = "\u001b[2J\n\u202eforged";
    const shown = "\\x1B[2J\\n\\u202Eforged";
    const { message, details } = new NextvladError("BAD_VIDEO", "wrong", {
      file: hostile,
      video: `${hostile}\udcff`,
      key: hostile,
      parameter: hostile,
      expected: hostile,
      found: hostile,
      remedy: "fix it",
    });
    assert.equal(
      message,
      `${shown}, video ${shown}\\xFF, ${shown}, parameter ${shown}: wrong (expected ${shown}, found ${shown}). Fix it.`,
    );
    assert.equal(details.file, hostile);
    assert.equal(new NextvladError("BAD_VIDEO", `what ${hostile}`).message, "what \\x1B[2J \\u202Eforged.");
    const long = "x".repeat(1_000_000);
    const all = new NextvladError("BAD_VIDEO", long, { file: long, video: long, key: long, parameter: long, expected: long, found: long });
    assert.ok(all.message.length < 8100);
    assert.ok(JSON.stringify({ ...serializeError(all).details, file: "" }).length < 6000);
    assert.equal(all.details.video, long);
  });
});

test("showChoices separates the last choice with or", () => {
  assert.deepEqual([["a", "b", "c"], ["a", "b"], ["a"], []].map(showChoices), ["a, b or c", "a or b", "a", ""]);
});

describe("showValue", () => {
  test("shows a value as JSON, and the length of a long one", () => {
    for (const [value, shown] of [
      [1, "1"],
      [Number.NaN, "NaN"],
      ["a\nb\u202e", '"a\\nb\\u202E"'],
      [[1, { a: null }], '[1,{"a":null}]'],
      [undefined, "undefined"],
      ["x".repeat(100), `"${"x".repeat(60)}...${"x".repeat(20)}" (100 characters)`],
    ] as const)
      assert.equal(showValue(value), shown);
    assert.equal(showValue("x".repeat(100), 10), '"xxxxxxxx...xx" (100 characters)');
    assert.equal(showValue([1, 2, 3, 4, 5, 6, 7, 8, 9], 8), "[1,2,3...9] (19 characters)");
  });

  test("says so if JSON cannot hold the value", () => {
    const circle: unknown[] = [];
    circle.push(circle);
    assert.equal(showValue(circle), "a list that is nested too deeply");
    let deep: unknown = {};
    for (let level = 0; level < 100_000; level++) deep = { deep };
    assert.equal(showValue(deep), "a mapping that is nested too deeply");
  });
});
