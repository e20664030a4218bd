/** What is shown for a value that is missing. */
const MISSING = "–";

/** Formats a number for people: integers with commas, others with up to 4 significant digits; a dash for NaN or a missing one. */
export function formatNumber(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return MISSING;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** Formats a metric or a probability with 4 decimals, as the log does; a dash for NaN or a missing one. */
export function formatMetric(value: number | null | undefined): string {
  return value === null || value === undefined || !Number.isFinite(value) ? MISSING : value.toFixed(4);
}
