import { join } from "node:path";
import { assertReplaceable } from "../base/output-checks.js";
import { PAGE_HEAD } from "../report/page-head.js";
import { readLabelNames } from "../results/label-names.js";
import type { ReportFlags } from "./flags.js";
import { printLines } from "./output.js";
import { beginsWith } from "./result-files.js";

/** `nextvlad report`: writes the page and prints its path; returns the exit code. */
export async function runReport(directories: readonly string[], { out, labels, overwrite }: ReportFlags): Promise<number> {
  await assertReportReplaceable(out, overwrite);
  const names = labels === undefined ? null : await readLabelNames(labels, null);
  const { writeReport } = await import("../report/report.js");
  await writeReport(directories, out, names);
  await printLines(`report: ${out}`);
  return 0;
}

/** Returns the path of the report that train and eval write to their save-dir with `--report`. */
export function reportIn(saveDir: string): string {
  return join(saveDir, "report.html");
}

/** Writes the report of a save-dir, and prints its path. Throws what `writeReport` throws. */
export async function reportSaveDir(saveDir: string): Promise<void> {
  const { writeReport } = await import("../report/report.js");
  await writeReport([saveDir], reportIn(saveDir), null);
  await printLines(`report: ${reportIn(saveDir)}`);
}

/** Checks, before the work, that a report replaces nothing but another report, unless `overwrite` is set. Throws FILE_UNWRITABLE. */
export async function assertReportReplaceable(path: string, overwrite = false): Promise<void> {
  await assertReplaceable(path, overwrite, (file) => beginsWith(file, PAGE_HEAD));
}
