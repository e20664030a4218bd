import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readEigenFactor } from "../../src/model/eigen.js";
import { temporaryFolder } from "../helpers/files.js";
import { encodeNpy } from "../helpers/npy.js";
import { failsWith } from "../helpers/shards.js";

test("eigenvalues in falling order give sqrt(value) + 1e-4 without a doubt, of a column or of a vector", async (t) => {
  const file = join(temporaryFolder(t), "eigenvals.npy");
  const values = Float32Array.of(16, 9, 9, 1, 0);
  for (const shape of [[5], [5, 1]]) {
    writeFileSync(file, encodeNpy(values, shape));
    const { factor, doubt } = await readEigenFactor(file, 5);
    assert.deepEqual(factor, Float32Array.of(4 + 1e-4, 3 + 1e-4, 3 + 1e-4, 1 + 1e-4, 1e-4));
    assert.equal(doubt, null);
  }
});

test("what is not eigenvalues is doubted, with what was seen, or refused", async (t) => {
  const file = join(temporaryFolder(t), "mean.npy");
  const doubtOf = async (values: Float32Array): Promise<string | null> => {
    writeFileSync(file, encodeNpy(values, [values.length]));
    return (await readEigenFactor(file, 4)).doubt;
  };
  // The mean of non-negative activations, as YouTube-8M's mean.npy.
  assert.match(
    String(await doubtOf(Float32Array.of(0.3, 0.5, 0.1, 0.4))),
    /mean\.npy does not look like eigenvalues.* 2 of 4 values are greater/,
  );
  assert.match(String(await doubtOf(new Float32Array(4))), /all 4 values are 0; use eigenvals\.npy/);
  // Only the values that are used count.
  assert.equal(await doubtOf(Float32Array.of(4, 3, 2, 1, 9)), null);
  const { message } = await failsWith(doubtOf(Float32Array.of(1, -1, 0, 0)), "BAD_FORMAT", { file, found: -1 });
  assert.match(message, /eigenvalue 1 is negative, not a number, or too large for float32.*Use eigenvals\.npy/);
  await failsWith(doubtOf(Float32Array.of(Number.POSITIVE_INFINITY, 1, 0, 0)), "BAD_FORMAT", { file, found: Number.POSITIVE_INFINITY });
  await failsWith(doubtOf(Float32Array.of(2, 1)), "BAD_FORMAT", { file, found: 2 });
});
