const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** A number of bytes written as text: `268435456`, `512M`, `512MiB`, `1G`; NaN for anything else. */
export function parseByteSize(text: string): number {
  const [, digits = "", unit = ""] = /^\s*(\d{1,15})\s*([KMG]?)(?:i?B)?\s*$/i.exec(text) ?? [];
  return digits === "" ? Number.NaN : Number(digits) * (UNITS[unit.toUpperCase()] as number);
}

/** "1.5 GB", "12 MB". */
export function formatBytes(bytes: number): string {
  const [size, unit] = bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${Number(size.toPrecision(3))} ${unit}`;
}

/** The longest record of a shard that is read unless an option raises the limit. An hour of YouTube-8M's frames is 4 MB. */
export const DEFAULT_MAX_RECORD_BYTES = 2 ** 28;
/** What the option can raise it to. */
export const LARGEST_MAX_RECORD_BYTES = 2 ** 30;
