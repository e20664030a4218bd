import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { readLabelNames } from "../results/label-names.js";
import type { ResultFormat } from "../results/result-formats.js";
import type { ResultTarget } from "../results/result-writer.js";

/** Refuses names of classes that no result would hold. Throws BAD_USAGE. */
export function checkLabels(labels: string | undefined, formats: readonly ResultFormat[]): void {
  if (labels === undefined || formats.includes("jsonl")) return;
  throw new NextvladError("BAD_USAGE", "only jsonl results hold the names of classes", {
    key: "--labels",
    found: formats.length === 0 ? "no results" : formats.join(","),
    remedy: "add jsonl to the formats, or leave --labels out",
  });
}

/**
 * Where results go: `path` is that of the files without their ending. Reads the names of classes, where a file (`labels`) has them, and warns where it leaves out some.
 * `numClasses`: null where it is not known. Throws what `readLabelNames` throws.
 */
export async function resultTarget(
  path: string,
  formats: readonly ResultFormat[],
  labels: string | undefined,
  numClasses: number | null,
  log: Logger,
): Promise<ResultTarget> {
  if (labels === undefined) return { path, formats, names: null };
  const names = await readLabelNames(labels, numClasses);
  const named = numClasses === null ? null : names.countNamed(numClasses);
  if (named !== numClasses) log.warn(`${labels} names ${named} of ${numClasses} classes; the others have the name null`);
  return { path, formats, names };
}

/** A line for each file, of what it holds. */
export function tellFiles(content: string, files: readonly string[]): readonly string[] {
  return files.map((file) => `${content}: ${file}`);
}
