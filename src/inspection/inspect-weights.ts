import { join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { showText } from "../base/shown-value.js";
import { adamParameter, inferModel, isArrayName, STEP_COUNTER } from "../checkpoints/model-arrays.js";
import { openWithOptimizerIfThere } from "../checkpoints/open-weights.js";
import { findPaddleStep } from "../checkpoints/paddle-step.js";
import { readSnapshotConfig, readSnapshotState } from "../checkpoints/snapshot.js";
import { checkSnapshot } from "../checkpoints/snapshot-check.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { readYamlText } from "../config/file.js";
import { buildConfig } from "../config/load.js";
import { countValues } from "../model/parameters.js";
import { row } from "./inspect-text.js";

/** Inspects weights: a snapshot, Paddle's, or exported ones. Problems with their sizes or config are in the result. Throws what `openWeights` throws. */
export async function inspectWeights(path: string) {
  const source = await openWithOptimizerIfThere(path);
  try {
    const problems: string[] = [];
    const orProblem = async <T>(work: () => T | Promise<T>): Promise<T | null> => {
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
    const state = snapshot === null ? null : await orProblem(() => readSnapshotState(snapshot));
    const step = state?.step ?? (hasOptimizer ? ((await orProblem(() => findPaddleStep(source, null)))?.step ?? null) : null);
    const isParameter = (name: string): boolean => isArrayName(name) && adamParameter(name) === null && name !== STEP_COUNTER;
    const parameters = arrays.filter(({ name }) => isParameter(name));
    // Finds the problem with a snapshot's optimizer, without which the weights were opened.
    if (snapshot !== null && !hasOptimizer) await orProblem(() => checkSnapshot(snapshot));
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
      model: await orProblem(() => inferModel(source)),
      /** Section MODEL of the config that the weights contain. */
      config: await orProblem(() => carriedModel(source)),
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

async function carriedModel({ snapshot, embeddedConfig, path }: WeightSource) {
  if (embeddedConfig !== undefined) return buildConfig(readYamlText(embeddedConfig, path), path).MODEL;
  return snapshot === null ? null : buildConfig(await readSnapshotConfig(snapshot), join(snapshot, "config.yaml")).MODEL;
}

/** Formats an inspection of weights as human-readable lines. */
export function formatWeights({
  path,
  form,
  step,
  state,
  model,
  config,
  parameters,
  values,
  optimizer,
  arrays,
  problems,
}: WeightInspection): readonly string[] {
  const lines = [...row("weights", path), ...row("kind", form)];
  if (step !== null) lines.push(...row("step", String(step)));
  if (state !== null) {
    const { epoch, step_in_epoch: inEpoch, seed, best, written_by: writer } = state;
    lines.push(...row("epoch", `${epoch} finished${inEpoch > 0 ? `, ${inEpoch} steps of the next` : ""}; seed ${seed}`));
    if (best !== null) lines.push(...row("best", `epoch ${best.epoch}, GAP ${best.gap.toFixed(4)}`));
    if (writer !== null)
      lines.push(
        ...row(
          "written by",
          `nextvlad ${showText(writer.nextvlad)}, TensorFlow ${showText(writer.tensorflow)}, ${writer.device.toUpperCase()}`,
        ),
      );
  }
  if (model !== null) {
    const { name, num_classes: classes, ...sizes } = model;
    lines.push(...row("model", name), ...row("classes", String(classes)), ...row("sizes", describeValues(sizes)));
    const others = Object.fromEntries(Object.entries(config ?? {}).filter(([key]) => !(key in model)));
    lines.push(...row("config", config === null ? "none" : describeValues(others)));
  }
  lines.push(
    ...row("parameters", `${parameters} arrays, ${values} values`),
    ...row("optimizer", optimizer ? "its state is there" : "none"),
  );
  if (model === null)
    lines.push(
      ...row(
        "arrays",
        listFirst(
          arrays.map(({ name, dtype, shape }) => `${showText(name)} ${showText(dtype)} [${showText(shape.join(", "))}]`),
          { shown: 10 },
        ),
      ),
    );
  lines.push(...row("problems", problems.length === 0 ? "none" : String(problems.length)), ...problems);
  return lines;
}

const MAX_CONFIG_VALUE_LENGTH = 200;

function describeValues(values: object): string {
  return Object.entries(values)
    .map(([key, value]) => `${key} ${showText(Array.isArray(value) ? value.join(" ") : String(value), MAX_CONFIG_VALUE_LENGTH)}`)
    .join(", ");
}
