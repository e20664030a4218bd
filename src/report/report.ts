import { writeFileAtomic } from "../base/files.js";
import type { LabelNames } from "../results/label-names.js";
import { renderPage } from "./page.js";
import { readPageParts } from "./page-parts.js";
import { readSources } from "./sources.js";

/**
 * Writes a page about the runs and evaluations in some directories. `names`: names of the classes that replace those of the evaluations; null for theirs. Throws
 * what `readSources` throws, and FILE_UNWRITABLE.
 */
export async function writeReport(directories: readonly string[], out: string, names: LabelNames | null): Promise<void> {
  const sources = await readSources(directories);
  const nameOf = names === null ? null : (c: number) => names.nameOf(c);
  await writeFileAtomic(out, renderPage(sources, nameOf, await readPageParts()));
}
