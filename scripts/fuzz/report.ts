import type { Outcome } from "./watch.js";

const HEADINGS = ["parser", "inputs", "accepted", "rejected", "slowest", "peak memory", "findings"];

/** Formats a Markdown table with one row per parser, followed by the findings. */
export function report(outcomes: readonly Outcome[]): string {
  const guided = outcomes.some(({ coverage }) => coverage !== null);
  const rows = outcomes.map(({ parser, inputs, outcomes: codes, slowestMs, peakBytes, coverage, findings }) => {
    const rejected = [...codes].filter(([code]) => code !== "accepted").sort((a, b) => b[1] - a[1]);
    const row = [
      parser,
      String(inputs),
      String(codes.get("accepted") ?? 0),
      rejected.map(([code, count]) => `${code} ${count}`).join(", "),
      `${slowestMs.toFixed(0)} ms`,
      `${(peakBytes / 2 ** 20).toFixed(0)} MB`,
      String(findings.length),
    ];
    return guided ? [...row, String(coverage?.paths ?? 0), String(coverage?.inputs ?? 0)] : row;
  });
  const headings = guided ? [...HEADINGS, "code paths", "inputs saved"] : HEADINGS;
  const lines = [headings, headings.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  const total = outcomes.reduce((sum, { inputs }) => sum + inputs, 0);
  const found = outcomes.flatMap(({ parser, findings }) =>
    findings.map(({ number, what, path }) => `\n${parser}, input ${number}, saved in ${path}:\n${what}\n`),
  );
  return `${[...lines, "", `${total} inputs, ${found.length} findings`, ...found].join("\n")}\n`;
}
