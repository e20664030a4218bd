import { escapeBytes } from "../base/byte-text.js";
import { escapeText } from "../base/shown-value.js";
import type { LabelNames } from "./label-names.js";
import type { Prediction } from "./result-codecs.js";

/** Number of classes of a video that are shown. */
const CLASSES = 5;
const MAX_BAR = 24;
const MIN_BAR = 4;
const BLOCKS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"] as const;

/** Formats a video's most probable classes for a terminal: its ID, then one line per class with its probability, a bar and its index and name. */
export function formatPrediction({ id, scores, classes }: Prediction, names: LabelNames | null, columns: number): readonly string[] {
  const size = Math.max(MIN_BAR, Math.min(MAX_BAR, Math.floor(columns / 4)));
  const lines = Array.from(classes.subarray(0, CLASSES), (c, rank) => {
    const score = scores[rank] as number;
    const name = names?.nameOf(c) ?? null;
    const head = `  ${score.toFixed(3)} ${formatBar(score, size).padEnd(size)} ${c}`;
    return name === null ? head : `${head} ${fit(name, columns - head.length - 1)}`;
  });
  return [fit(escapeBytes(id), columns), ...lines];
}

/** Returns untrusted text on one line, cut to a width. */
export function fit(text: string, width: number): string {
  const escaped = escapeText(text);
  return escaped.length <= width ? escaped : `${escaped.slice(0, Math.max(0, width - 1))}…`;
}

/** Returns a bar for a value from 0 to 1, at most `size` characters long, in eighths of a character. */
export function formatBar(value: number, size: number): string {
  const eighths = Math.round(value * size * 8);
  return "█".repeat(Math.floor(eighths / 8)) + BLOCKS[eighths % 8];
}
