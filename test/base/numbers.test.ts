import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { divideEvenly, parseDecimal } from "../../src/base/numbers.js";

test("decimals are parsed as in JavaScript, but not blanks, other bases, infinity or incomplete numbers", () => {
  for (const text of ["0", "-1", "+1", "1.", ".5", "-.5e3", "1e-5", "1E+05", "007", "12.50"])
    assert.equal(parseDecimal(text), Number(text), text);
  for (const text of ["", " 1", "1 ", ".", "e5", "1e", "1e+", "0x10", "Infinity", "NaN", "1_000", "--1", "1.2.3", "1\n", "\u0661"]) {
    assert.ok(Number.isNaN(parseDecimal(text)), JSON.stringify(text));
  }
  const double = fc.double({ noNaN: true, noDefaultInfinity: true });
  fc.assert(fc.property(double, (value) => assert.equal(parseDecimal(String(value)), Number(String(value)))));
});

test("parsing takes linear time for long text that is almost a number", () => {
  const startMs = performance.now();
  for (const end of ["x", "e", ".x"]) assert.ok(Number.isNaN(parseDecimal("9".repeat(1_000_000) + end)));
  // With a pattern that backtracks over the digits, 60,000 of them took 2.8 s.
  assert.ok(performance.now() - startMs < 1000);
});

test("items are divided into consecutive ranges, the larger ones first", () => {
  assert.deepEqual(divideEvenly(7, 3), [
    [0, 3],
    [3, 2],
    [5, 2],
  ]);
  fc.assert(
    fc.property(fc.nat(1000), fc.integer({ min: 1, max: 70 }), (count, parts) => {
      const ranges = divideEvenly(count, parts);
      assert.equal(ranges.length, parts);
      let next = 0;
      for (const [first, size] of ranges) {
        assert.equal(first, next);
        assert.ok(size === Math.floor(count / parts) || size === Math.ceil(count / parts));
        next += size;
      }
      assert.equal(next, count);
    }),
  );
});
