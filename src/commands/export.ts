import { findConfig } from "./configuration.js";
import type { ExportFlags } from "./options.js";
import { version } from "./version.js";

/** `nextvlad export`: writes the weights in the format asked for and prints the files; returns the exit code. */
export async function runExport(flags: ExportFlags): Promise<number> {
  const config = await findConfig(flags, [], flags.weights);
  const { exportWeights } = await import("../checkpoints/export.js");
  const { optimizerScalars } = await import("../training/optimizer-scalars.js");
  const { files, optimizer } = await exportWeights({
    weights: flags.weights,
    format: flags.format,
    out: flags.out,
    model: config.MODEL,
    optimizerScalars: (step, trained) => optimizerScalars(step, trained, config.TRAIN),
    version: version(),
  });
  if (flags.format === "onnx") process.stderr.write(`drop_rate ${config.MODEL.drop_rate} is part of the graph\n`);
  if (optimizer === false) process.stderr.write("these weights bring no optimizer state, so none is written\n");
  for (const file of files) process.stdout.write(`${file}\n`);
  return 0;
}
