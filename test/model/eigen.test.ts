import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readEigenFactor } from "../../src/model/eigen.js";
import { temporaryFolder } from "../helpers/files.js";
import { encodeNpy } from "../helpers/npy.js";
import { failsWith } from "../helpers/shards.js";

test("descending eigenvalues give sqrt(value) + 1e-4 without a warning, as a column or a vector", async (t) => {
  const file = join(temporaryFolder(t), "eigenvals.npy");
  const values = Float32Array.of(16, 9, 9, 1, 0);
  for (const shape of [[5], [5, 1]]) {
    writeFileSync(file, encodeNpy(values, shape));
    const { factor, warning } = await readEigenFactor(file, 5);
    assert.deepEqual(factor, Float32Array.of(4 + 1e-4, 3 + 1e-4, 3 + 1e-4, 1 + 1e-4, 1e-4));
    assert.equal(warning, null);
  }
});

test("values that do not look like eigenvalues are a warning or an error", async (t) => {
  const file = join(temporaryFolder(t), "mean.npy");
  const warningOf = async (values: Float32Array): Promise<string | null> => {
    writeFileSync(file, encodeNpy(values, [values.length]));
    return (await readEigenFactor(file, 4)).warning;
  };
  // The mean of non-negative activations, as YouTube-8M's mean.npy.
  assert.match(
    String(await warningOf(Float32Array.of(0.3, 0.5, 0.1, 0.4))),
    /mean\.npy does not look like eigenvalues.* 2 of 4 values are greater/,
  );
  assert.match(String(await warningOf(new Float32Array(4))), /all 4 values are 0; use eigenvals\.npy/);
  // Only the values that are used count.
  assert.equal(await warningOf(Float32Array.of(4, 3, 2, 1, 9)), null);
  const { message } = await failsWith(warningOf(Float32Array.of(1, -1, 0, 0)), "BAD_FORMAT", { file, found: -1 });
  assert.match(message, /eigenvalue 1 is negative, NaN, or too large for float32.*Use eigenvals\.npy/);
  await failsWith(warningOf(Float32Array.of(Number.POSITIVE_INFINITY, 1, 0, 0)), "BAD_FORMAT", { file, found: Number.POSITIVE_INFINITY });
  await failsWith(warningOf(Float32Array.of(2, 1)), "BAD_FORMAT", { file, found: 2 });
});
