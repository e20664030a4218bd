import type uPlot from "uplot";
import type { ChartData, SeriesData } from "../chart-data.js";

/** Draws the charts of a report in its elements of class `plot`, from the data in them. */

declare global {
  interface Window {
    readonly uPlot: typeof uPlot;
  }
}

const HEIGHT = 240;
const FONT = "12px system-ui, sans-serif";
const COLORS = 6;
/** Colors repeat after `COLORS` runs, with other dashes. */
const DASHES = [[], [10, 4], [2, 3], [10, 4, 2, 4]];

/** Returns a color of the style sheet, which has others in a dark scheme. */
function colorOf(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function lineOf({ label, color, style }: SeriesData): uPlot.Series {
  const stroke = colorOf(color === null ? "reference" : `series-${color % COLORS}`);
  const common = { label, stroke, spanGaps: true, width: style === "line" ? 2 : 1.25 };
  if (style === "faint") return { ...common, width: 1, alpha: 0.35, points: { show: false } };
  const dash = style === "line" ? (DASHES[Math.floor((color ?? 0) / COLORS) % DASHES.length] ?? []) : [5, 4];
  return { ...common, dash, points: { show: style === "marked", size: 7, fill: stroke } };
}

/** Formats a value for an axis or the line below a chart. */
function format(value: number | null | undefined): string {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-3) return value.toExponential(value.toPrecision(1) === String(value) ? 0 : 1).replace("e-", "e−");
  return Number(value.toPrecision(size >= 1000 ? 6 : 4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

function axis(label: string, size: number): uPlot.Axis {
  const [stroke, grid] = [colorOf("text-dim"), colorOf("grid")];
  const values = (_: uPlot, splits: readonly number[]): string[] => splits.map(format);
  return {
    stroke,
    label,
    font: FONT,
    labelFont: FONT,
    labelSize: 18,
    size,
    grid: { stroke: grid, width: 1 },
    ticks: { stroke: grid, width: 1 },
    values,
  };
}

/** Returns the last value at or before an index: the series of a chart have values at different x. */
function valueBefore(values: ArrayLike<number | null | undefined>, index: number): number | null {
  for (let i = index; i >= 0; i--) {
    const value = values[i];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

/** Shows the values at the pointer in the line below the chart. */
function showValues(plot: uPlot, { series, xLabel }: ChartData, line: Element | null): void {
  if (line === null) return;
  const index = plot.cursor.idx;
  if (index === null || index === undefined) {
    line.textContent = "";
    return;
  }
  const values = series.flatMap(({ label, style }, i) => {
    const value = style === "reference" || style === "faint" ? null : valueBefore(plot.data[i + 1] ?? [], index);
    return value === null ? [] : [`${label} ${format(value)}`];
  });
  line.textContent = `${xLabel} ${format(plot.data[0][index])}: ${values.join(", ")}`;
}

function draw(element: HTMLElement, data: ChartData): uPlot {
  const line = element.parentElement?.querySelector(".readout") ?? null;
  const unit = data.isUnitSquare ? { range: [0, 1] as [number, number] } : {};
  const options: uPlot.Options = {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { points: { size: 6 } },
    scales: { x: { time: false, ...unit }, y: { distr: data.isLogarithmic ? 3 : 1, ...unit } },
    axes: [axis(data.xLabel, 34), { ...axis("", 62), labelSize: 0 }],
    series: [{}, ...data.series.map(lineOf)],
    hooks: { setCursor: [(plot) => showValues(plot, data, line)] },
  };
  const tables = data.series.map(({ x, y }): uPlot.AlignedData => [x as number[], y as (number | null)[]]);
  return new window.uPlot(options, window.uPlot.join(tables), element);
}

const charts = Array.from(document.querySelectorAll<HTMLElement>(".plot"), (element) => {
  const data = JSON.parse(element.querySelector("script")?.textContent ?? "") as ChartData;
  return { element, data, plot: draw(element, data) };
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) {
    chart.plot.destroy();
    chart.plot = draw(chart.element, chart.data);
  }
});

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = charts.find(({ element }) => element === target);
    if (chart !== undefined && chart.plot.width !== target.clientWidth) chart.plot.setSize({ width: target.clientWidth, height: HEIGHT });
  }
});
for (const { element } of charts) sizes.observe(element);
