import { dirname } from "node:path";
import { NextvladError } from "../base/errors.js";
import { isStream } from "../base/output-stream.js";
import { version } from "../base/package.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { formatConfig } from "../config/keys.js";
import type { Config } from "../config/schema.js";
import { findConfig } from "./configuration.js";
import type { AverageFlags } from "./flags.js";
import { printToStderr } from "./output.js";
import { prepareDirectory, removeDirectoriesOnError } from "./output-directory.js";
import { assertJsonPrintable, printFiles } from "./result-files.js";
import { hasConfig, openNamedWeights } from "./weights.js";

/** `nextvlad average`: writes the average of several weights as safetensors, describes them on stderr, and prints the file; returns the exit code. */
export async function runAverage(paths: readonly string[], flags: AverageFlags): Promise<number> {
  const sources: WeightSource[] = [];
  try {
    for (const path of paths) sources.push(await openNamedWeights(path));
    return await removeDirectoriesOnError(flags.out, () => averageTo(sources, flags));
  } finally {
    for (const source of sources) await source.close();
  }
}

async function averageTo(sources: readonly WeightSource[], { out, overwrite, json }: AverageFlags): Promise<number> {
  const first = sources.find(hasConfig) ?? (sources[0] as WeightSource);
  const config = await findConfig({}, [], first);
  const inferred = "sizes are inferred from array shapes, and all other keys have the published recipe's values";
  const origin = hasConfig(first) ? `that of ${first.path} is used` : inferred;
  for (const source of sources) {
    printToStderr(`weights: ${source.path}, ${source.form}${hasConfig(source) ? "" : `, without a config: ${origin}`}`);
    if (hasConfig(source)) assertSameDropRates(config, await findConfig({}, [], source), source);
  }
  const { averageWeights } = await import("../checkpoints/average.js");
  const { exportWeights } = await import("../checkpoints/export.js");
  const { parameterTable } = await import("../model/network.js");
  const { modelSizes } = await import("../model/sizes.js");
  const isStreamed = await isStream(out);
  assertJsonPrintable({ json }, isStreamed);
  if (!isStreamed) await prepareDirectory(dirname(out));
  const { files } = await exportWeights({
    weights: await averageWeights(sources, parameterTable(modelSizes(config.MODEL))),
    format: "safetensors",
    out,
    model: config.MODEL,
    configYaml: hasConfig(first) ? formatConfig(config) : null,
    schedule: config.TRAIN,
    version: version(),
    overwrite: overwrite ?? false,
  });
  await printFiles({ json }, { weights: sources.map(({ path }) => path) }, files, isStreamed);
  return 0;
}

/** Throws BAD_WEIGHTS if weights were trained with another drop_rate: it scales values in inference, so the same arrays compute something else. */
function assertSameDropRates({ MODEL }: Config, other: Config, { path: file }: WeightSource): void {
  for (const key of ["drop_rate", "hidden_drop_rate"] as const) {
    const [expected, found] = [MODEL[key], other.MODEL[key]];
    if (expected === found) continue;
    const remedy = "average only weights of the same model";
    throw new NextvladError("BAD_WEIGHTS", `these weights were trained with another ${key}`, {
      file,
      key: `MODEL.${key}`,
      expected,
      found,
      remedy,
    });
  }
}
