import { join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { countValues } from "../base/numbers.js";
import { adamParameter, inferModel, isArrayName, STEP_COUNTER } from "../checkpoints/model-arrays.js";
import { openWithOptimizerIfPresent } from "../checkpoints/open-weights.js";
import { findPaddleStep } from "../checkpoints/paddle-step.js";
import { checkSnapshot, readSnapshotConfig, readSnapshotState } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { buildConfig } from "../config/load.js";
import { readYamlText } from "../config/yaml.js";

/** Inspects weights: a snapshot, Paddle's, or exported ones. Problems with their sizes or config are in the result. Throws what `openWeights` throws. */
export async function inspectWeights(path: string) {
  const source = await openWithOptimizerIfPresent(path);
  try {
    const problems: string[] = [];
    const tryRead = async <T>(work: () => T | Promise<T>): Promise<T | null> => {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof NextvladError)) throw error;
        problems.push(error.message);
        return null;
      }
    };
    const { snapshot } = source;
    const arrays = Array.from(source.entries, ([name, { dtype, shape }]) => ({ name, dtype, shape }));
    const hasOptimizer = arrays.some(({ name }) => adamParameter(name) !== null);
    const state = snapshot === null ? null : await tryRead(() => readSnapshotState(snapshot));
    const step = state?.step ?? (hasOptimizer ? ((await tryRead(() => findPaddleStep(source, null)))?.step ?? null) : null);
    const isParameter = (name: string): boolean => isArrayName(name) && adamParameter(name) === null && name !== STEP_COUNTER;
    const parameters = arrays.filter(({ name }) => isParameter(name));
    // Finds the problem with a snapshot's optimizer, without which the weights were opened.
    if (snapshot !== null && !hasOptimizer) await tryRead(() => checkSnapshot(snapshot));
    return {
      path,
      form: source.form,
      step,
      /** Of a snapshot: epochs finished, steps in the current one, best validation, and the versions that wrote it. */
      state: state && {
        epoch: state.epoch,
        step_in_epoch: state.step_in_epoch,
        seed: state.seed,
        best: state.best,
        written_by: state.written_by,
      },
      /** The name and sizes of the model, inferred from the names and shapes of the arrays. */
      model: await tryRead(() => inferModel(source)),
      /** Section MODEL of the config that the weights contain. */
      config: await tryRead(() => embeddedModel(source)),
      parameters: parameters.length,
      values: parameters.reduce((sum, { shape }) => sum + countValues(shape), 0),
      optimizer: hasOptimizer,
      arrays,
      problems,
    };
  } finally {
    await source.close();
  }
}

/** Result of `inspectWeights`. */
export type WeightInspection = Awaited<ReturnType<typeof inspectWeights>>;

async function embeddedModel({ snapshot, embeddedConfig, path }: WeightSource) {
  if (embeddedConfig !== undefined) return buildConfig(readYamlText(embeddedConfig, path), path).MODEL;
  return snapshot === null ? null : buildConfig(await readSnapshotConfig(snapshot), join(snapshot, "config.yaml")).MODEL;
}
