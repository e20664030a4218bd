import { writeSnapshot } from "../../src/checkpoints/snapshot.js";
import { parameterTable } from "../../src/model/network.js";
import type { Parameter } from "../../src/model/parameters.js";
import type { StoredArray } from "../../src/runtime/variables.js";
import type { GoldenCase } from "./golden.js";

/** A named array in memory, in the form that a snapshot stores. */
function stored(name: string, shape: readonly number[], values: Float32Array<ArrayBuffer>): StoredArray {
  return { name, shape, isDivided: false, download: () => values, upload: (given) => values.set(given) };
}

/** Returns plausible Adam moments for a parameter: the first of any sign, the second nonnegative. */
function moments({ name, shape }: Parameter): StoredArray[] {
  return [1, 2].map((moment) => {
    const values = new Float32Array(shape.reduce((product, side) => product * side, 1));
    for (let i = 0, state = name.length * moment; i < values.length; i++) {
      // The generator of Numerical Recipes: a million numbers take 10 ms.
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      values[i] = ((state >>> 8) % 1000) / 1e6 - (moment === 1 ? 5e-4 : 0);
    }
    return stored(`${name}_moment${moment}_0`, shape, values);
  });
}

/** Writes a golden case's weights as a snapshot after `step` steps, with the matching config. */
export async function writeGoldenSnapshot(path: string, golden: GoldenCase, { dropRate = 0, step = 3 } = {}): Promise<void> {
  const { sizes } = golden;
  const table = parameterTable(sizes);
  const MODEL = {
    num_classes: sizes.classes,
    cluster_size: sizes.clusters,
    hidden_size: sizes.hidden,
    groups: sizes.groups,
    expansion: sizes.expansion,
    gating_reduction: sizes.hidden / sizes.bottleneck,
    drop_rate: dropRate,
  };
  await writeSnapshot(path, {
    weights: table.map(({ name, shape }) => stored(name, shape, golden.weights.get(name)?.values as Float32Array<ArrayBuffer>)),
    moments: table.filter(({ trained }) => trained).flatMap(moments),
    state: { step, epoch: 1, step_in_epoch: 0, seed: 0, best: null, validated_epoch: null, shards: null },
    configYaml: JSON.stringify({
      MODEL,
      TRAIN: { learning_rate: golden.learningRate, learning_rate_decay: 0.5, lr_boundary_examples: 320 },
    }),
  });
}
