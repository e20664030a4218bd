import { dirname } from "node:path";
import { isStream } from "../base/output-stream.js";
import { version } from "../base/package.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { formatConfig } from "../config/keys.js";
import { findConfig } from "./configuration.js";
import type { ExportFlags } from "./flags.js";
import { printToStderr } from "./output.js";
import { prepareDirectory, removeDirectoriesOnError } from "./output-directory.js";
import { assertJsonPrintable, printFiles } from "./result-files.js";
import { describeWeights, hasConfig, openNamedWeights } from "./weights.js";

/** `nextvlad export`: writes the weights in the requested format, describes them on stderr, and prints the files; returns the exit code. */
export async function runExport(flags: ExportFlags): Promise<number> {
  const { supportsOptimizer } = await import("../checkpoints/export.js");
  const weights = await openNamedWeights(flags.weights, supportsOptimizer(flags.format) ? { optimizer: "if present" } : {});
  return removeDirectoriesOnError(flags.out, () => exportFrom(weights, flags)).finally(() => weights.close());
}

async function exportFrom(weights: WeightSource, flags: ExportFlags): Promise<number> {
  const { exportWeights } = await import("../checkpoints/export.js");
  const config = await findConfig(flags, [], weights);
  printToStderr(...describeWeights(weights, flags, config));
  const isStreamed = await isStream(flags.out);
  assertJsonPrintable(flags, isStreamed);
  if (!isStreamed) await prepareDirectory(dirname(flags.out));
  const { files, optimizer } = await exportWeights({
    weights,
    format: flags.format,
    out: flags.out,
    model: config.MODEL,
    configYaml: hasConfig(weights) || flags.config !== undefined || flags.set !== undefined ? formatConfig(config) : null,
    schedule: config.TRAIN,
    version: version(),
    overwrite: flags.overwrite ?? false,
  });
  if (flags.format === "onnx")
    printToStderr(`drop_rate ${config.MODEL.drop_rate} and max_frames ${config.MODEL.max_frames} are constants of the graph`);
  if (optimizer === false) printToStderr("the weights have no optimizer state, so none is written");
  await printFiles(flags, { format: flags.format, optimizer: optimizer === true }, files, isStreamed);
  return 0;
}
