import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { describeKeys, sectionNames, suggestKey } from "../../src/config/keys.js";
import { buildConfig } from "../../src/config/load.js";

const keys = describeKeys();
const known = new Set(keys.map((key) => key.name));

test("every key says what it is for and what it takes, and its default is a value it takes", () => {
  assert.equal(keys.length, 48);
  for (const { section, name, help, expected, fallback } of keys) {
    assert.match(help, /^\S.{8,}[^.]$/, `${section}.${name}`);
    assert.match(expected, /^\S.*[^.]$/, `${section}.${name}`);
    const config = buildConfig({ [section]: { [name]: fallback } }, "own.yaml");
    assert.deepEqual(config, buildConfig({ [section]: null }, "own.yaml"));
  }
});

test("a key with one slip of the pen brings a suggestion as near as the key itself", () => {
  const slip = fc.record({
    key: fc.constantFrom(...keys),
    at: fc.nat(),
    letter: fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz_"),
    kind: fc.nat(2),
  });
  fc.assert(
    fc.property(slip, ({ key, at, letter, kind }) => {
      const i = at % key.name.length;
      const word = key.name.slice(0, i) + (kind === 0 ? "" : letter) + key.name.slice(kind === 2 ? i : i + 1);
      fc.pre(!known.has(word));
      const suggestion = suggestKey(key.section, word);
      const named = /^the nearest is \w+\.(\w+)$/.exec(suggestion)?.[1];
      assert.ok(named !== undefined && known.has(named), suggestion);
      assert.ok(named === key.name || oneEditApart(named, word), `${word} is nearer to ${key.name} than to ${named}`);
    }),
    { numRuns: 500 },
  );
});

function oneEditApart(a: string, b: string): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  return [...long].some(
    (_, i) => long.slice(0, i) + long.slice(i + 1) === short || long.slice(0, i) + short[i] + long.slice(i + 1) === short,
  );
}

test("an unknown key, whatever it is, is refused with keys that exist", () => {
  fc.assert(
    fc.property(fc.constantFrom(...sectionNames), fc.string({ minLength: 1, maxLength: 30 }), (section, word) => {
      fc.pre(!known.has(word));
      try {
        buildConfig({ [section]: { [word]: 1 } }, "own.yaml");
      } catch (error) {
        assert.ok(error instanceof NextvladError);
        const remedy = error.details.remedy ?? "";
        assert.ok(
          keys.some((key) => remedy === `the nearest is ${key.section}.${key.name}` || remedy.startsWith(`the keys of ${section} are `)),
          remedy,
        );
        return;
      }
      assert.fail("an unknown key was accepted");
    }),
    { numRuns: 300 },
  );
});
