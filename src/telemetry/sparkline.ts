const LEVELS = "▁▂▃▄▅▆▇█";

/** Returns a line of at most `width` characters whose heights show values in order, each the mean of as many of them as it takes; empty for fewer than 2. */
export function sparkline(values: readonly number[], width: number): string {
  const finite = values.filter(Number.isFinite);
  if (finite.length < 2) return "";
  const count = Math.min(width, finite.length);
  const means = Array.from({ length: count }, (_, i) => {
    const part = finite.slice(Math.floor((i * finite.length) / count), Math.floor(((i + 1) * finite.length) / count));
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const level = (mean: number): number => (high === low ? 0 : Math.round(((mean - low) / (high - low)) * (LEVELS.length - 1)));
  return means.map((mean) => LEVELS[level(mean)]).join("");
}
