import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { readResumeState } from "../../src/training/resume-state.js";
import { temporaryFolder } from "../helpers/files.js";
import { goldenFolder } from "../helpers/golden.js";

test("Paddle's checkpoints resume at the step of their optimizer, and at the epoch of their name", async (t) => {
  const folder = temporaryFolder(t);
  for (const [name, epoch, words] of [
    ["checkpoint3", 0, /epochs count from 0/],
    ["NEXTVLAD_epoch5", 6, /the epoch is its name's/],
    ["NEXTVLAD_epoch_0", 1, /the epoch is its name's/],
  ] as const) {
    for (const ending of ["pdparams.gz", "pdopt.gz"])
      copyFileSync(fileURLToPath(new URL(`checkpoint3.${ending}`, goldenFolder("resume"))), join(folder, `${name}.${ending}`));
    const source = await openWeights(join(folder, `${name}.pdparams.gz`), { optimizer: true });
    const { state, writtenBy, told } = await readResumeState(source, 9, null);
    await source.close();
    const validated_epoch = epoch === 0 ? null : epoch - 1;
    assert.deepEqual(state, { step: 3, epoch, step_in_epoch: 0, seed: 9, best: null, validated_epoch, shards: null });
    assert.equal(writtenBy, null);
    assert.match(told, words);
  }
});
