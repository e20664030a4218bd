import { stat } from "node:fs/promises";
import { NextvladError } from "../base/errors.js";
import type { WeightInspection } from "../inspection/inspect-weights.js";
import type { InspectFlags } from "./flags.js";
import { printResult, terminalColumns } from "./output.js";

/** File names that only weights have. */
const WEIGHTS = /\.(pdparams(\.gz)?|safetensors|npz)$/;

/** `nextvlad inspect`: prints the contents of a shard or of weights; returns the exit code, 1 if problems were found. */
export async function runInspect(path: string, flags: InspectFlags): Promise<number> {
  const isDirectory = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  const { inspectWeights } = await import("../inspection/inspect-weights.js");
  if (isDirectory || WEIGHTS.test(path)) return printWeights(await inspectWeights(path), flags);
  const { inspectShard } = await import("../inspection/inspect-shard.js");
  const { formatShard } = await import("../inspection/inspect-report.js");
  try {
    const inspection = await inspectShard(path, flags.maxRecordBytes);
    await printResult(flags, { ...inspection }, formatShard(inspection, terminalColumns()));
    return inspection.problems > 0 ? 1 : 0;
  } catch (error) {
    if (!(error instanceof NextvladError)) throw error;
    // A file that is not a shard may contain weights. If it is neither, the shard's error is more specific.
    const weights = await inspectWeights(path).catch(() => null);
    if (weights === null || weights.parameters === 0) throw error;
    return printWeights(weights, flags);
  }
}

async function printWeights(weights: WeightInspection, flags: InspectFlags): Promise<number> {
  const { formatWeights } = await import("../inspection/inspect-report.js");
  await printResult(flags, { ...weights }, formatWeights(weights));
  return weights.problems.length > 0 ? 1 : 0;
}
