import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "../helpers/nextvlad.js";

/** Every page of documentation, by its path in the repository. */
export const PAGES: readonly string[] = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  ...readdirSync(join(repository, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

export function readPage(path: string): string {
  return readFileSync(join(repository, path), "utf8");
}

/** A fenced code block. */
export interface CodeBlock {
  /** Empty for output. */
  readonly language: string;
  readonly code: string;
}

/** Returns the code blocks of a page, in order. */
export function codeBlocks(path: string): readonly CodeBlock[] {
  return Array.from(readPage(path).matchAll(/^```(\w*)\n(.*?)^```$/gms), ([, language = "", code = ""]) => ({ language, code }));
}

/** Returns the distinct matches of a pattern's first group. */
export function findAll(text: string, pattern: RegExp): readonly string[] {
  return [...new Set(Array.from(text.matchAll(pattern), ([, first]) => first as string))];
}

/** Returns the rows of the tables of a page whose first column has this title. */
export function tableRows(path: string, title: string): readonly (readonly string[])[] {
  return Array.from(readPage(path).matchAll(/(?:^\|.*\|\n)+/gm), ([table]) =>
    table
      .trimEnd()
      .split("\n")
      .map((line) =>
        line
          .slice(1, -1)
          .split("|")
          .map((cell) => cell.trim()),
      ),
  ).flatMap(([titles, , ...rows]) => (titles?.[0] === title ? rows : []));
}
