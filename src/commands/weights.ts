import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import type { ExportFlags } from "./flags.js";

/** Opens the weights at `path`, or the published ones where PaddleVideo stores them. Throws what finding and opening them throws. */
export async function openNamedWeights(
  path: string | undefined,
  { optimizer }: { readonly optimizer?: "if present" } = {},
): Promise<WeightSource> {
  const { openWeights, openWithOptimizerIfPresent } = await import("../checkpoints/open-weights.js");
  const { findPublishedWeights } = await import("../checkpoints/open-weights.js");
  const found = path ?? (await findPublishedWeights());
  return optimizer === "if present" ? openWithOptimizerIfPresent(found) : openWeights(found, { optimizer: false });
}

/** Whether weights contain a config. */
export function hasConfig({ snapshot, embeddedConfig }: WeightSource): boolean {
  return snapshot !== null || embeddedConfig !== undefined;
}

/** Returns log lines about weights: path and format, and which config values were inferred if they contain no config and none is given. */
export function describeWeights(source: WeightSource, flags: Pick<ExportFlags, "config" | "set">, { MODEL }: Config): readonly string[] {
  const lines = [`weights: ${source.path}, ${source.form}`];
  if (flags.config !== undefined || hasConfig(source)) return lines;
  lines.push("the weights contain no config: sizes are inferred from array shapes, and all other keys have the published recipe's values");
  if (!flags.set?.some((setting) => setting.trim().startsWith("MODEL.drop_rate"))) {
    lines.push(`using drop_rate ${MODEL.drop_rate}, which weights do not contain; set another one with --set MODEL.drop_rate=RATE`);
  }
  return lines;
}
