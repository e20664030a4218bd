/** A value that came from a file, as the user may recognise it in an error: short, on one line. */
export function showValue(value: unknown, mostLength = 60): string {
  const text = typeof value === "number" ? String(value) : jsonOf(value);
  return text.length <= mostLength ? text : `${text.slice(0, mostLength - 3)}...`;
}

/** A value may be nested deeper than the stack allows, or, by YAML's aliases, hold itself. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return `${Array.isArray(value) ? "a list" : "a mapping"} that is nested too deeply`;
  }
}
