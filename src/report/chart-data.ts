/** A chart, as the page's script draws it. */
export interface ChartData {
  readonly xLabel: string;
  /** Whether both axes are from 0 to 1. */
  readonly isUnitSquare: boolean;
  readonly isLogarithmic: boolean;
  readonly series: readonly SeriesData[];
}

/** A line of a chart: y over x, which increases. */
export interface SeriesData {
  readonly label: string;
  /** Index of the run or evaluation, which determines the color; null for a reference. */
  readonly color: number | null;
  /** `faint`: a thin line behind others; `marked`: a dashed line with a mark at each point; `reference`: a dashed line. */
  readonly style: "line" | "faint" | "marked" | "reference";
  readonly x: readonly number[];
  readonly y: readonly (number | null)[];
}
