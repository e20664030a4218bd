import type { Diagnostics } from "../evaluation/diagnostics.js";
import { chart } from "./charts.js";
import { type Html, html } from "./html.js";
import { formatMetric, formatNumber } from "./numbers.js";
import type { Evaluation } from "./sources.js";
import { number, plainTable, sortableTable, text } from "./tables.js";

/** An evaluation with the names of its classes and its color. */
export interface NamedEvaluation extends Evaluation {
  readonly nameOf: (c: number) => string | null;
  readonly color: number;
}

/** The published results of PaddleVideo's recipe on YouTube-8M (its README), for comparison. */
const PUBLISHED = { classes: 3862, gap: 0.8709, perr: 0.8132, hit_at_one: 0.896 } as const;

/** Number of classes in the tables of the best and the worst. */
const EXTREMES = 10;

/** Returns the section about evaluations; empty without any. */
export function evaluationSection(evaluations: readonly NamedEvaluation[]): Html {
  if (evaluations.length === 0) return html``;
  const axes = { isUnitSquare: true } as const;
  return html`<section aria-labelledby="evaluation"><h2 id="evaluation">Evaluation</h2>
${metricsTable(evaluations)}
<div class="charts">
${chart(
  "Precision and recall",
  "Precision",
  evaluations.map(({ name, color, diagnostics: { precision_recall: points } }) => ({
    ...{ label: name, color, style: "line" as const },
    ...{ x: points.recall, y: points.precision },
  })),
  { ...axes, xLabel: "recall" },
)}
${chart(
  "Calibration",
  "Share of labels",
  [
    { label: "perfect calibration", color: null, style: "reference", x: [0, 1], y: [0, 1] },
    ...evaluations.map(({ name, color, diagnostics: { calibration } }) => {
      const bins = calibration.filter(({ predictions }) => predictions > 0);
      return {
        ...{ label: name, color, style: "marked" as const },
        ...{ x: bins.map(({ mean_probability: mean }) => mean as number), y: bins.map(({ hit_share: share }) => share) },
      };
    }),
  ],
  { ...axes, xLabel: "mean probability" },
)}
</div>
<p>Both charts are of the predictions that GAP is computed from: the most probable classes of each video (20 by default), pooled. Each mark of the calibration is
the mean of a bin of width 0.05.</p>
</section>
${classSections(evaluations)}
${evaluations.map((one, i) => mistakesSection(one, `mistakes-${i}`, evaluations.length > 1))}`;
}

const METRICS = [
  ["gap", "GAP"],
  ["perr", "PERR"],
  ["hit_at_one", "Hit@1"],
  ["map", "MAP"],
  ["loss", "Loss"],
] as const;

/** Metrics that only some evaluations have. */
const OPTIONAL_METRICS: readonly (readonly [string, (metrics: Diagnostics["metrics"]) => number | null | undefined])[] = [
  ["mAP (full ranking)", ({ full_ranking: full }) => full?.map],
  ["mAUC (full ranking)", ({ full_ranking: full }) => full?.mauc],
  ["d-prime (full ranking)", ({ full_ranking: full }) => full?.d_prime],
  ["MAP@K of segments", ({ segments }) => segments?.map_at_k],
];

function metricsTable(evaluations: readonly NamedEvaluation[]): Html {
  const isComparable = evaluations.some(({ diagnostics }) => diagnostics.classes.aps.length === PUBLISHED.classes);
  const published = (metric: string): Html =>
    isComparable ? html`<td class="number">${formatMetric((PUBLISHED as Readonly<Record<string, number>>)[metric])}` : html``;
  const rowOf = (title: string, show: (diagnostics: Diagnostics) => string, last: Html): Html =>
    html`<tr><th scope="row">${title}${evaluations.map(({ diagnostics }) => html`<td class="number">${show(diagnostics)}`)}${last}`;
  const rows = [
    ...METRICS.map(([metric, title]) => rowOf(title, ({ metrics }) => formatMetric(metrics[metric]), published(metric))),
    ...OPTIONAL_METRICS.filter(([, select]) => evaluations.some(({ diagnostics }) => select(diagnostics.metrics) !== undefined)).map(
      ([title, select]) => rowOf(title, ({ metrics }) => formatMetric(select(metrics)), published("")),
    ),
    rowOf("Calibration error", (diagnostics) => formatMetric(calibrationError(diagnostics)), published("")),
    rowOf("Videos", ({ metrics }) => formatNumber(metrics.videos), published("")),
    rowOf("Videos without labels", ({ metrics }) => formatNumber(metrics.videos_without_labels), published("")),
    rowOf("Classes", ({ classes }) => formatNumber(classes.aps.length), published("")),
  ];
  const columns = [
    text("Metric"),
    ...evaluations.map(({ name }) => number(name)),
    ...(isComparable ? [number("published (PaddleVideo)")] : []),
  ];
  return plainTable("Metrics", columns, rows);
}

/** Mean distance between probability and share of labels over the bins, weighted by their predictions (expected calibration error). */
function calibrationError({ calibration }: Diagnostics): number {
  const total = calibration.reduce((sum, { predictions }) => sum + predictions, 0);
  const distance = calibration.reduce(
    (sum, { predictions, mean_probability: mean, hit_share: share }) => sum + predictions * Math.abs((mean ?? 0) - (share ?? 0)),
    0,
  );
  return distance / total;
}

/** Returns a section about classes for the evaluations of each number of classes. */
function classSections(evaluations: readonly NamedEvaluation[]): readonly Html[] {
  const sizes = [...new Set(evaluations.map(({ diagnostics }) => diagnostics.classes.aps.length))];
  return sizes.map((size) => {
    const several = evaluations.length > 1;
    const own = evaluations.filter(({ diagnostics }) => diagnostics.classes.aps.length === size);
    const id = `classes-${size}`;
    return html`<section aria-labelledby="${id}"><h2 id="${id}">${formatNumber(size)} classes</h2>
<div class="pair">${own.flatMap((one) => [extremesTable(one, "best", several), extremesTable(one, "worst", several)])}</div>
${classTable(own, size)}</section>`;
  });
}

/** Returns a cell with an average precision, or another share, over a bar of that length. */
function barCell(share: number): Html {
  return html`<td class="number bar" style="--v:${Math.round(1000 * share) / 1000}">${formatMetric(share)}`;
}

function extremesTable({ name, diagnostics, nameOf }: NamedEvaluation, which: "best" | "worst", several: boolean): Html {
  const { aps, videos } = diagnostics.classes;
  const sign = which === "best" ? -1 : 1;
  // Of equal ones, those with more videos say more.
  const order = Array.from(aps.keys())
    .filter((c) => (videos[c] as number) > 0)
    .sort((a, b) => sign * ((aps[a] as number) - (aps[b] as number)) || (videos[b] as number) - (videos[a] as number) || a - b);
  const rows = order
    .slice(0, EXTREMES)
    .map(
      (c) =>
        html`<tr><td class="number">${c}<td class="name">${nameOf(c) ?? "–"}${barCell(aps[c] as number)}<td class="number">${formatNumber(videos[c])}`,
    );
  const title = `The ${which} classes${several ? ` of ${name}` : ""}`;
  return html`<div><h3>${title}</h3>${plainTable(title, [number("Class"), text("Name"), number("AP"), number("Videos")], rows)}</div>`;
}

/** As in the page's script: the rows of classes that are shown at first. Without scripts, the page shows all. */
const SHOWN_ROWS = 100;

/** Returns the table of all classes, with the average precision in each evaluation, and a search field. */
function classTable(evaluations: readonly NamedEvaluation[], size: number): Html {
  const several = evaluations.length > 1;
  const columns = [
    ...[number("Class"), text("Name")],
    ...evaluations.flatMap(({ name }) => [number(several ? `AP, ${name}` : "AP"), number(several ? `Videos, ${name}` : "Videos")]),
  ];
  const nameOf = (c: number): string | null => evaluations.map((one) => one.nameOf(c)).find((name) => name !== null) ?? null;
  const rows = Array.from({ length: size }, (_, c) => {
    const cells = evaluations.map(({ diagnostics: { classes } }) =>
      (classes.videos[c] as number) === 0
        ? html`<td class="number">–<td class="number">0`
        : html`${barCell(classes.aps[c] as number)}<td class="number">${formatNumber(classes.videos[c])}`,
    );
    const name = nameOf(c);
    return html`<tr ${c < SHOWN_ROWS ? "" : "hidden"}><td class="number">${c}<td class="name">${name ?? "–"}${cells}`;
  });
  const shown = formatNumber(Math.min(size, SHOWN_ROWS));
  const id = `search-${size}`;
  return html`<div class="searchable"><h3>Average precision of each class</h3>
<p>Over the same predictions as GAP. A class without videos has no average precision, and counts as 0 in MAP.</p>
<div class="search"><label for="${id}">Find a class, by name or number</label> <input id="${id}" type="search" autocomplete="off">
<span role="status">${shown} of ${formatNumber(size)} classes</span>
<button type="button" class="all" ${size > SHOWN_ROWS ? "" : "hidden"}>Show all</button></div>
${sortableTable(`Average precision of ${formatNumber(size)} classes`, columns, rows)}</div>`;
}

/** Returns the section about the confused pairs and the most confident mistakes of an evaluation. */
function mistakesSection(
  { name, diagnostics: { confused_pairs: pairs, mistakes }, nameOf }: NamedEvaluation,
  id: string,
  several: boolean,
): Html {
  const suffix = several ? ` of ${name}` : "";
  const heading = html`<h2 id="${id}">Mistakes${suffix}</h2>`;
  if (pairs === null || mistakes === null) {
    return html`<section aria-labelledby="${id}">${heading}<p>Unknown: this evaluation resumed partial results of an older version, which did not record them. Run eval
again without <code>--resume</code>.</p></section>`;
  }
  const named = (c: number): Html =>
    nameOf(c) === null ? html`class ${c}` : html`<bdi>${nameOf(c) as string}</bdi> <span class="dim">(${c})</span>`;
  const pairRows = pairs.map(
    ({ label, predicted, videos }) =>
      html`<tr><td class="name">${named(label)}<td class="name">${named(predicted)}<td class="number">${formatNumber(videos)}`,
  );
  const mistakeRows = mistakes.map(({ id: video, predicted, probability, labels, label_probabilities: found }) => {
    const list = labels.slice(0, MAX_LABELS).map((c, i) => html`<li>${named(c)} <span class="dim">${formatMetric(found[i])}</span></li>`);
    const more = labels.length > MAX_LABELS ? html`<li>and ${labels.length - MAX_LABELS} more</li>` : html``;
    return html`<tr><td class="id"><bdi>${video}</bdi><td class="name">${named(predicted)}${barCell(probability)}<td class="name"><ul class="labels">${list}${more}</ul>`;
  });
  return html`<section aria-labelledby="${id}">${heading}
<p>A video is a mistake if its most probable class is not one of its labels.${mistakes.length === 0 ? " There are none." : ""}</p>
${
  mistakes.length === 0
    ? html``
    : html`<h3>Most confused pairs${suffix}</h3>
${sortableTable(`Most confused pairs${suffix}`, [text("Label"), text("Predicted instead"), number("Videos")], pairRows)}
<h3>Most confident mistakes${suffix}</h3>
${sortableTable(
  `Most confident mistakes${suffix}`,
  [text("Video"), text("Predicted"), number("Probability"), text("Labels, with their probabilities")],
  mistakeRows,
)}`
}</section>`;
}

/** Maximum number of labels that are shown of a video. */
const MAX_LABELS = 20;
