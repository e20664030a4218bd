import { showText } from "../base/shown-value.js";
import type { SeriesData } from "./chart-data.js";
import { chart, smooth } from "./charts.js";
import { type Html, html } from "./html.js";
import { formatMetric, formatNumber } from "./numbers.js";
import type { LoggedValidation, StepValue } from "./run-log.js";
import type { Run } from "./sources.js";
import { number, plainTable, sortableTable, text } from "./tables.js";

/** From this number of points, a curve is smoothed, and drawn over its values. */
const SMOOTHED_FROM = 60;
/** Maximum number of characters that are shown of a message. */
const MAX_MESSAGE = 500;

/** Returns the section about training runs; empty without runs. `colorOf`: the color of a directory. */
export function trainingSection(runs: readonly Run[], colorOf: (name: string) => number): Html {
  if (runs.length === 0) return html``;
  const several = runs.length > 1;
  const curve = (value: StepValue, validated?: keyof LoggedValidation["values"]): readonly SeriesData[] =>
    runs.flatMap((run) => [
      ...trainingSeries(run, value, colorOf(run.name), several),
      ...validationSeries(run, validated, colorOf(run.name), several),
    ]);
  const axes = { xLabel: "step" };
  const rates = { ...axes, mayBeLogarithmic: true };
  return html`<section aria-labelledby="training"><h2 id="training">Training</h2>
${summaryTable(runs)}
<p>Curves of training batches, as they are logged; faint lines are the logged values, strong ones their moving average. Drag over a chart to zoom, double-click to
show everything.</p>
<div class="charts">
${chart("Loss", "Loss", curve("loss", "loss"), rates)}
${chart("GAP", "GAP", curve("gap", "gap"), axes)}
${chart("PERR", "PERR", curve("perr", "perr"), axes)}
${chart("Hit@1", "Hit@1", curve("hit_at_one", "hit_at_one"), axes)}
${chart(
  "MAP (validation)",
  "MAP",
  runs.flatMap((run) => validationSeries(run, "map", colorOf(run.name), several)),
  axes,
)}
${chart("Learning rate", "Learning rate", curve("learning_rate"), rates)}
${chart("Throughput", "Videos per second", curve("videos_per_second"), axes)}
${chart("Share of time that waits for data", "Share", curve("wait_share"), axes)}
</div>
${validationTable(runs)}
${configTable(runs)}
${runs.map(warningTable)}
</section>`;
}

function trainingSeries({ name, log }: Run, value: StepValue, color: number, several: boolean): readonly SeriesData[] {
  const x = log.steps.map(({ last }) => last);
  const y = log.steps.map(({ values }) => values[value]);
  const label = several ? name : "training";
  // These two are averages over the epoch so far already.
  const isSmooth = value === "learning_rate" || value === "videos_per_second" || value === "wait_share";
  if (isSmooth || x.length < SMOOTHED_FROM) return [{ label, color, style: "line", x, y }];
  return [
    { label, color, style: "faint", x, y },
    { label, color, style: "line", x, y: smooth(y) },
  ];
}

function validationSeries(
  { name, log }: Run,
  value: keyof LoggedValidation["values"] | undefined,
  color: number,
  several: boolean,
): readonly SeriesData[] {
  if (value === undefined) return [];
  const x = log.validations.map(({ step }) => step);
  const y = log.validations.map(({ values }) => values[value]);
  return [{ label: several ? `${name}, validation` : "validation", color, style: "marked", x, y }];
}

function summaryTable(runs: readonly Run[]): Html {
  const columns = [
    text("Run"),
    ...["Epochs", "Last step", "Loss", "Best validation GAP", "Videos/s"].map(number),
    ...["Started", "Last line of the log"].map(text),
  ];
  const rows = runs.map(({ name, log }) => {
    const { steps, validations, lastEpoch, times } = log;
    const last = steps.at(-1);
    const best = bestOf(validations);
    const bestText = best === null ? formatMetric(null) : `${formatMetric(best.values.gap)} (epoch ${best.epoch})`;
    return html`<tr><th scope="row"><bdi>${name}</bdi><td class="number">${formatNumber(lastEpoch === null ? null : lastEpoch + 1)}<td class="number">${formatNumber(
      last?.last,
    )}<td class="number">${formatNumber(smooth(steps.map(({ values }) => values.loss)).at(-1))}<td class="number">${bestText}<td class="number">${formatNumber(
      last?.values.videos_per_second,
    )}<td>${formatTime(times?.first)}<td>${formatTime(times?.last)}`;
  });
  return plainTable("Training runs", columns, rows);
}

function bestOf(validations: readonly LoggedValidation[]): LoggedValidation | null {
  return validations.reduce<LoggedValidation | null>(
    (best, one) => (one.values.gap !== null && one.values.gap > (best?.values.gap ?? Number.NEGATIVE_INFINITY) ? one : best),
    null,
  );
}

/** Formats `2026-01-31T12:34:56.789Z` as `2026-01-31 12:34:56 UTC`. */
function formatTime(time: string | undefined): string {
  const [, date, clock] = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)/.exec(time ?? "") ?? [];
  return date === undefined ? formatNumber(null) : `${date} ${clock} UTC`;
}

function validationTable(runs: readonly Run[]): Html {
  const rows = runs.flatMap(({ name, log }) =>
    log.validations.map(({ epoch, step, values }) => {
      const cells = [values.gap, values.perr, values.hit_at_one, values.map, values.loss].map(
        (value) => html`<td class="number">${formatMetric(value)}`,
      );
      return html`<tr><th scope="row"><bdi>${name}</bdi><td class="number">${epoch}<td class="number">${step}${cells}`;
    }),
  );
  if (rows.length === 0) return html``;
  const columns = [text("Run"), ...["Epoch", "Step", "GAP", "PERR", "Hit@1", "MAP", "Loss"].map(number)];
  return html`<h3>Validations</h3>${sortableTable("Validations", columns, rows)}`;
}

/** Returns the config of a run, or the keys in which the configs of several runs differ. */
function configTable(runs: readonly Run[]): Html {
  const keys = [...new Set(runs.flatMap(({ config }) => [...config.keys()]))];
  const valuesOf = (key: string): readonly string[] => runs.map(({ config }) => config.get(key) ?? "");
  const shown = runs.length === 1 ? keys : keys.filter((key) => new Set(valuesOf(key)).size > 1);
  if (keys.length === 0) return html``;
  if (shown.length === 0) return html`<p>The configs of the runs are the same.</p>`;
  const title = runs.length === 1 ? "Config" : "Differences between the configs";
  const rows = shown.map((key) => html`<tr><th scope="row">${key}${valuesOf(key).map((value) => html`<td class="wrapped">${value}`)}`);
  const columns = [text("Key"), ...runs.map(({ name }) => text(runs.length === 1 ? "Value" : name))];
  return html`<details><summary>${title}</summary>${plainTable(title, columns, rows)}</details>`;
}

function warningTable({ name, log }: Run): Html {
  if (log.warnings.length === 0) return html``;
  const title = `Warnings and errors in the log of ${name}`;
  const rows = log.warnings.map(
    ({ message, count }) => html`<tr><td class="wrapped">${showText(message, MAX_MESSAGE)}<td class="number">${formatNumber(count)}`,
  );
  return html`<details><summary>${title}</summary>${plainTable(title, [text("Message"), number("Times")], rows)}</details>`;
}
