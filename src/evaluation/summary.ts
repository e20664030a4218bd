import { fit, formatBar } from "../results/preview.js";
import type { Metrics } from "./metrics.js";

/** Number of best and of worst classes. */
const CLASSES = 5;
const MAX_BAR = 24;
const MIN_BAR = 4;

/** What an evaluation shows on a terminal. */
export interface Evaluated {
  readonly metrics: Metrics;
  /** `[classes]`: the number of videos with each class as label. */
  readonly positives: Float64Array;
  readonly nameOf: ((c: number) => string | null) | null;
}

/** Formats the metrics, and the classes with the best and the worst average precision, as lines of at most `columns` characters. */
export function formatSummary({ metrics, positives, nameOf }: Evaluated, columns: number): readonly string[] {
  const { aps, full_ranking: full, segments } = metrics;
  const size = Math.max(MIN_BAR, Math.min(MAX_BAR, Math.floor(columns / 4)));
  const share = (name: string, value: number): string => `  ${name.padEnd(7)} ${value.toFixed(4)} ${formatBar(value, size)}`;
  const number = (name: string, value: number): string => `  ${name.padEnd(7)} ${value.toFixed(4)}`;
  const lines = [
    `${metrics.videos} ${segments === undefined ? "videos" : "rated segments"}, ${aps.length} classes`,
    ...[share("Hit@1", metrics.hit_at_one), share("PERR", metrics.perr), share("GAP", metrics.gap), share("MAP", metrics.map)],
    number("loss", metrics.loss),
  ];
  if (segments !== undefined) {
    lines.push(`ranking of the rated segments of ${segments.classes} classes with positives`, share("MAP@K", segments.map_at_k));
  }
  if (full !== undefined) {
    lines.push(`full ranking of ${full.classes} classes with videos`);
    lines.push(share("mAP", full.map), share("mAUC", full.mauc), number("d-prime", full.d_prime));
  }
  const counted = Array.from(aps.keys()).filter((c) => (positives[c] as number) > 0);
  // Of equal ones, those with more videos say more, as in the report.
  const ranked = (sign: 1 | -1): readonly number[] =>
    counted.toSorted(
      (a, b) => sign * ((aps[a] as number) - (aps[b] as number)) || (positives[b] as number) - (positives[a] as number) || a - b,
    );
  const digits = String(Math.max(...positives)).length;
  const line = (c: number): string => {
    const bar = formatBar(aps[c] as number, size).padEnd(size);
    const head = `  ${(aps[c] as number).toFixed(3)} ${bar} ${String(positives[c]).padStart(digits)} ${c}`;
    const name = nameOf?.(c) ?? null;
    return name === null ? head : `${head} ${fit(name, columns - head.length - 1)}`;
  };
  const group = (title: string, classes: readonly number[]): readonly string[] => [
    `${title}: average precision, videos, class`,
    ...classes.map(line),
  ];
  if (counted.length <= 2 * CLASSES) lines.push(...group("classes", ranked(-1)));
  else lines.push(...group("best classes", ranked(-1).slice(0, CLASSES)), ...group("worst classes", ranked(1).slice(0, CLASSES)));
  return lines.map((text) => fit(text, columns));
}
