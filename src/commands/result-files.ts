import { open, realpath } from "node:fs/promises";
import type { Logger } from "pino";
import { fileError, NextvladError } from "../base/errors.js";
import { assertReplaceable } from "../base/output-checks.js";
import { DIAGNOSTICS_HEAD } from "../evaluation/diagnostics.js";
import { readLabelNames } from "../results/label-names.js";
import { RESULT_FORMATS, type ResultFormat } from "../results/result-formats.js";
import type { ResultTarget } from "../results/result-writer.js";
import { SEGMENTS_HEADER } from "../results/segment-lists.js";
import { isShown, printResult, printToStderr } from "./output.js";

/** Throws BAD_USAGE if `labels` is given and nothing shows class names: no terminal, and no result format that contains them. */
export function checkLabels(labels: string | undefined, formats: readonly ResultFormat[]): void {
  if (labels === undefined || isShown({}) || formats.includes("jsonl") || formats.includes("csv")) return;
  throw new NextvladError("BAD_USAGE", "only csv and jsonl results contain class names", {
    key: "--labels",
    found: formats.length === 0 ? "no results" : formats.join(","),
    remedy: "add csv or jsonl to the formats, or omit --labels",
  });
}

/** First characters of a metrics file, by which our own files are recognized: `hit_at_one` stays the first metric. */
const METRICS_HEAD = '{\n "hit_at_one":';

/** The files that a command will write. */
export interface PlannedResults {
  /** Path of the predictions without the extension. */
  readonly predictions: string;
  readonly formats: readonly ResultFormat[];
  /** Path of the metrics file; null for none. */
  readonly metrics: string | null;
  /** Path of the diagnostics; null for none. */
  readonly diagnostics: string | null;
  /** Path of Kaggle's csv of segments; by default none. */
  readonly segments?: string | null;
}

/**
 * Checks, before the work, that every existing file to be replaced is a result of nextvlad and not one of the `inputs`, unless `overwrite` is set. Throws
 * FILE_UNWRITABLE if one is not.
 */
export async function assertResultsReplaceable(
  { predictions, formats, metrics, diagnostics, segments = null }: PlannedResults,
  overwrite = false,
  inputs: readonly string[] = [],
): Promise<void> {
  // A missing input is reported when it is read.
  const read = await Promise.all(inputs.map((input) => realpath(input).catch(() => input)));
  const files: [path: string, head: string][] = formats.map((format) => {
    const { extension, head } = RESULT_FORMATS[format];
    return [predictions + extension, head];
  });
  if (metrics !== null) files.push([metrics, METRICS_HEAD]);
  if (diagnostics !== null) files.push([diagnostics, DIAGNOSTICS_HEAD]);
  if (segments !== null) files.push([segments, SEGMENTS_HEADER]);
  for (const [file, head] of files) {
    await assertReplaceable(file, overwrite, async (path) => !read.includes(await realpath(path)) && (await beginsWith(path, head)));
  }
}

/** Whether a file begins with `text` (Latin-1), or is empty. Throws FILE_UNREADABLE. */
export async function beginsWith(path: string, text: string): Promise<boolean> {
  try {
    const handle = await open(path, "r");
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(text.length), 0, text.length, 0).finally(() => handle.close());
    return bytesRead === 0 || buffer.toString("latin1", 0, bytesRead) === text;
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/**
 * Returns where to write results; `path` is that of the files without the extension. Reads the class names in the file `labels`, if given, and warns if some
 * classes have no name. `numClasses`: null if unknown. Throws what `readLabelNames` throws.
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
  if (named !== numClasses) log.warn(`${labels} contains names for ${named} of ${numClasses} classes; the other names are null`);
  return { path, formats, names };
}

/** Returns a line for each file: its content and its path. */
export function formatFiles(content: string, files: readonly string[]): readonly string[] {
  return files.map((file) => `${content}: ${file}`);
}

/** Throws BAD_USAGE for --json if the weights themselves are written to a stream, which may be standard output. */
export function assertJsonPrintable({ json = false }: { readonly json?: boolean | undefined }, isStreamed: boolean): void {
  if (!json || !isStreamed) return;
  const remedy = "write the weights to a file, or omit --json";
  throw new NextvladError("BAD_USAGE", "the output is a stream, which may be standard output", { key: "--json", remedy });
}

/** Prints the paths of written weights: on stdout, or on stderr if the weights themselves may be there. `facts` are for --json. */
export async function printFiles(
  flags: { readonly json?: boolean | undefined },
  facts: Readonly<Record<string, unknown>>,
  files: readonly string[],
  isStreamed: boolean,
): Promise<void> {
  if (isStreamed) printToStderr(...files.map((file) => `written to ${file}`));
  else await printResult(flags, { ...facts, files }, files);
}
