import { createHash } from "node:crypto";
import { version } from "../base/package.js";
import { evaluationSection, type NamedEvaluation } from "./evaluation-section.js";
import { Html, html } from "./html.js";
import { PAGE_HEAD } from "./page-head.js";
import type { PageParts } from "./page-parts.js";
import type { Sources } from "./sources.js";
import { trainingSection } from "./training-section.js";

/**
 * Returns the page as HTML. It needs no other file: styles, scripts and data are part of it, and its policy allows the browser to load nothing else.
 * `nameOf`: names that replace those of the evaluations; null for theirs.
 */
export function renderPage({ runs, evaluations }: Sources, nameOf: ((c: number) => string | null) | null, parts: PageParts): string {
  const directories = [...new Set([...runs, ...evaluations].map(({ name }) => name))];
  const colorOf = (name: string): number => directories.indexOf(name);
  const named = evaluations.map((evaluation): NamedEvaluation => {
    const { names } = evaluation.diagnostics.classes;
    return { ...evaluation, color: colorOf(evaluation.name), nameOf: nameOf ?? ((c) => names?.[c] ?? null) };
  });
  const scripts = [
    inlineScript(notice(parts.license) + parts.library, false),
    ...parts.scripts.map((script) => inlineScript(script, true)),
  ];
  const allowed = scripts.map(({ hash }) => `'sha256-${hash}'`).join(" ");
  const policy = `default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src ${allowed}; base-uri 'none'; form-action 'none'`;
  const body = html`<header><h1>nextvlad report</h1><p>Of ${directories.map((name, i) => html`${i === 0 ? "" : ", "}<code><bdi>${name}</bdi></code>`)}</p></header>
<main>${trainingSection(runs, colorOf)}
${evaluationSection(named)}</main>
<footer><p>Written by nextvlad ${version()}.</p><details><summary>Charts by uPlot, under the MIT license</summary><pre>${parts.license.split("\n").map((line) => html`${line}${new Html("\n")}`)}</pre></details></footer>`;
  return `${PAGE_HEAD}
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>${html`nextvlad report: ${directories.join(", ")}`.text}</title><style>${parts.style}</style>
<noscript><style>tr[hidden] { display: table-row } .all { display: none }</style></noscript></head><body>
${body.text}
${scripts.map(({ element }) => element).join("\n")}
</body></html>
`;
}

/** Returns a script as an element, with the hash that permits it in the page's policy. */
function inlineScript(code: string, isModule: boolean): { readonly element: string; readonly hash: string } {
  if (code.includes("</script")) throw new RangeError("a script of the page contains the end of its element");
  return {
    element: `<script${isModule ? ' type="module"' : ""}>${code}</script>`,
    hash: createHash("sha256").update(code).digest("base64"),
  };
}

/** Returns a license as a comment of JavaScript. */
function notice(license: string): string {
  return `/*\nuPlot\n\n${license.replaceAll("*/", "* /")}\n*/\n`;
}
