import { join } from "node:path";
import { assertReplaceable } from "../base/output-checks.js";
import { PAGE_HEAD } from "../report/page-head.js";
import { readLabelNames } from "../results/label-names.js";
import type { EvalFlags, ReportFlags } from "./flags.js";
import { printJson, printLines, printResult } from "./output.js";
import { beginsWith } from "./result-files.js";

/** `nextvlad report`: writes the page and prints its path; returns the exit code. */
export async function runReport(directories: readonly string[], { out, labels, overwrite, json }: ReportFlags): Promise<number> {
  await assertReportReplaceable(out, overwrite);
  const names = labels === undefined ? null : await readLabelNames(labels, null);
  const { writeReport } = await import("../report/report.js");
  await writeReport(directories, out, names);
  await printResult({ json }, { report: out }, [`report: ${out}`]);
  return 0;
}

/** Returns the path of the report that train and eval write to their save-dir with `--report`. */
export function reportIn(saveDir: string): string {
  return join(saveDir, "report.html");
}

/**
 * Prints the result of train or eval and, with `--report`, writes the report of the save-dir and prints its path. The lines come first, so that they are printed
 * if the report fails; the JSON document contains the path. Throws what `writeReport` throws.
 */
export async function printWithReport(
  { json, report, saveDir }: Pick<EvalFlags, "json" | "report" | "saveDir">,
  value: Readonly<Record<string, unknown>>,
  lines: readonly string[],
): Promise<void> {
  if (!json) await printLines(...lines);
  const path = report ? reportIn(saveDir) : null;
  if (path !== null) {
    const { writeReport } = await import("../report/report.js");
    await writeReport([saveDir], path, null);
    if (!json) await printLines(`report: ${path}`);
  }
  if (json) await printJson({ ...value, report: path });
}

/** Checks, before the work, that a report replaces nothing but another report, unless `overwrite` is set. Throws FILE_UNWRITABLE. */
export async function assertReportReplaceable(path: string, overwrite = false): Promise<void> {
  await assertReplaceable(path, overwrite, (file) => beginsWith(file, PAGE_HEAD));
}
