import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** What every page contains. */
export interface PageParts {
  readonly style: string;
  /** The library of the charts, which defines `uPlot`, and its license. */
  readonly library: string;
  readonly license: string;
  /** The page's own scripts, which are modules. */
  readonly scripts: readonly string[];
}

/** Reads the parts of a page from this program's own files. */
export async function readPageParts(): Promise<PageParts> {
  const library = dirname(createRequire(import.meta.url).resolve("uplot/package.json"));
  const own = fileURLToPath(new URL("./page/", import.meta.url));
  const read = (...path: readonly [string, string]): Promise<string> => readFile(join(...path), "utf8");
  const [libraryStyle, style, code, license, ...scripts] = await Promise.all([
    read(library, "dist/uPlot.min.css"),
    read(own, "style.css"),
    read(library, "dist/uPlot.iife.min.js"),
    read(library, "LICENSE"),
    read(own, "draw-charts.js"),
    read(own, "sort-tables.js"),
  ]);
  return { style: `${libraryStyle}\n${style}`, library: code, license, scripts };
}
