import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { formatGeneral } from "../../src/formats/general-format.js";

/** Formats values with Python's `%g`. */
function written(values: readonly number[]): string[] {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeDoubleLE(value, 8 * i);
  const script = "import struct, sys\nfor (v,) in struct.iter_unpack('<d', sys.stdin.buffer.read()): print('%g' % v)";
  const run = spawnSync("python3", ["-c", script], { input: bytes, encoding: "utf8", maxBuffer: 1 << 26 });
  assert.equal(run.status, 0, run.stderr);
  return run.stdout.trimEnd().split("\n");
}

test("formats numbers like Python's %g", () => {
  const values = [0, -0, 1, -1, 10, 0.5, 0.1, 1e-4, 9.999995e-5, 0.000123456789, 123456, 999999.5, 1e6, 1234567, -1.5e-7, 5e-324, 1.7e308];
  // Ties: seven digits give the value exactly; rounding up gives the even digit for some and the odd digit for others.
  values.push(2 ** -9, 3 * 2 ** -9, 1000000.5, 100000.5, 100001.5, 1234565, 1234575, 2 ** -149);
  const float = fc.float({ noNaN: true, noDefaultInfinity: true });
  values.push(
    ...fc.sample(float, { numRuns: 3000, seed: 1 }),
    ...fc.sample(fc.float({ min: 0, max: 1, noNaN: true }), { numRuns: 3000, seed: 2 }),
  );
  values.push(...fc.sample(fc.integer({ min: 0, max: 2 ** 24 }), { numRuns: 3000, seed: 3 }).map((n) => n * 2 ** -14));
  values.push(0.9989999, 0.99899995, 0.999, 0.9999999, 0.1000004, 1e-4 + 2 ** -40, ...Array.from({ length: 2048 }, (_, i) => i / 2048));
  assert.deepEqual(values.map(formatGeneral), written(values));
});
