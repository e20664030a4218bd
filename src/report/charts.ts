import type { ChartData, SeriesData } from "./chart-data.js";
import { type Html, html, jsonElement } from "./html.js";
import { formatNumber } from "./numbers.js";
import { number, plainTable, text } from "./tables.js";

/** Maximum number of rows that the table of a chart has for a series. */
const TABLE_ROWS = 12;
/** From this ratio of the largest to the smallest value, the axis is logarithmic. */
const LOGARITHMIC_RATIO = 20;

/**
 * Returns a chart with its title, its legend, and a table of its values, which is for screen readers and the keyboard. Series without a point are omitted; empty
 * without any series.
 */
export function chart(
  title: string,
  yLabel: string,
  given: readonly SeriesData[],
  axes: { readonly xLabel: string; readonly isUnitSquare?: boolean; readonly mayBeLogarithmic?: boolean },
): Html {
  const series = given.filter(({ y }) => y.some((value) => value !== null));
  if (series.every(({ style }) => style === "reference")) return html``;
  const { least, most } = rangeOf(series);
  const isLogarithmic = axes.mayBeLogarithmic === true && least > 0 && most >= LOGARITHMIC_RATIO * least;
  const data: ChartData = { xLabel: axes.xLabel, isUnitSquare: axes.isUnitSquare ?? false, isLogarithmic, series };
  const shown = series.filter(({ style }) => style !== "faint");
  const scale = isLogarithmic ? ", on a logarithmic axis" : "";
  const described = `${yLabel} over ${axes.xLabel}${scale}, of ${shown.map(({ label }) => label).join(", ")}. The values are in the table below.`;
  return html`<figure class="chart"><figcaption><h3>${title}</h3>${legend(shown)}</figcaption>
<div class="plot" role="img" aria-label="${described}">${jsonElement(data)}</div><p class="readout" aria-hidden="true"></p>
<details><summary>Values<span class="hidden"> of ${title}</span></summary>${valueTable(title, yLabel, shown, axes.xLabel)}</details></figure>`;
}

function rangeOf(series: readonly SeriesData[]): { readonly least: number; readonly most: number } {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of series.flatMap(({ y }) => y)) {
    if (value === null) continue;
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  return { least, most };
}

function legend(series: readonly SeriesData[]): Html {
  const items = series.map(({ label, color, style }) => html`<li><span class="key ${style} ${colorClass(color)}"></span>${label}</li>`);
  return html`<ul class="legend">${items}</ul>`;
}

/** Number of colors of the style sheet. */
const COLORS = 6;

function colorClass(color: number | null): string {
  return color === null ? "" : `c${color % COLORS}`;
}

function valueTable(title: string, yLabel: string, series: readonly SeriesData[], xLabel: string): Html {
  const rows = series
    .filter(({ style }) => style !== "reference")
    .flatMap(({ label, x, y }) =>
      sample(x.length).map(
        (i) => html`<tr><th scope="row">${label}<td class="number">${formatNumber(x[i])}<td class="number">${formatNumber(y[i])}`,
      ),
    );
  return plainTable(`${title}: values`, [text("Series"), number(capitalize(xLabel)), number(yLabel)], rows);
}

/** Returns at most `TABLE_ROWS` indices below `length`, with the first and the last. */
function sample(length: number): readonly number[] {
  if (length <= TABLE_ROWS) return Array.from({ length }, (_, i) => i);
  return Array.from({ length: TABLE_ROWS }, (_, i) => Math.round((i * (length - 1)) / (TABLE_ROWS - 1)));
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * Returns the exponential moving average, over about a fiftieth of the values, as a line; values without a number are skipped. Corrected for its start, as in
 * Adam (Kingma and Ba, 2014).
 */
export function smooth(values: readonly (number | null)[]): readonly (number | null)[] {
  const decay = 1 - 1 / (1 + values.length / 50);
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = decay * sum + (1 - decay) * value;
    weight = decay * weight + (1 - decay);
    return sum / weight;
  });
}
