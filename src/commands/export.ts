import { dirname } from "node:path";
import { isStream } from "../base/output-stream.js";
import { version } from "../base/package.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { formatConfig } from "../config/keys.js";
import type { Config } from "../config/schema.js";
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
  if (flags.format === "onnx") printToStderr(`${describeConstants(config.MODEL)} are constants of the graph`);
  if (optimizer === false) printToStderr("the weights have no optimizer state, so none is written");
  await printFiles(flags, { format: flags.format, optimizer: optimizer === true }, files, isStreamed);
  return 0;
}

/** Returns the settings that an ONNX graph contains as constants. */
function describeConstants({ drop_rate, hidden_drop_rate, max_frames }: Config["MODEL"]): string {
  const hidden = hidden_drop_rate === 0 ? "" : `, hidden_drop_rate ${hidden_drop_rate}`;
  return `drop_rate ${drop_rate}${hidden} and max_frames ${max_frames}`;
}
