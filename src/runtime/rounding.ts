import { formatThreads } from "../base/threads.js";
import type { Device } from "./runtime.js";

/** What the last digits of results depend on, besides the code. */
export interface Rounding {
  /** TensorFlow's version, and the kind of device. */
  readonly software: string;
  /** Processor level of our CPU kernels; undefined on a GPU, or if an older version did not record it. */
  readonly level?: string | undefined;
  /** Number of threads of the CPU kernels; undefined on a GPU, or if an older version did not record it. */
  readonly threads?: number | undefined;
}

/** Returns the version of TensorFlow and the kind of device ("cpu" or "gpu") as text. */
export function describeSoftware(tensorflow: string, device: string): string {
  return `TensorFlow ${tensorflow} on the ${device.toUpperCase()}`;
}

/** Returns what the results of a device depend on. Sums over threads run on the CPU only. */
export function roundingOf({ kind, level, threads, tensorflowVersion }: Device): Rounding {
  const software = describeSoftware(tensorflowVersion, kind);
  return kind === "cpu" ? { software, level, threads: threads.count } : { software };
}

/** Returns the level and the number of threads in parentheses, with a space before; empty if both are unknown. */
export function describeProcessor({ level, threads }: Pick<Rounding, "level" | "threads">): string {
  const parts: string[] = [];
  if (level !== undefined) parts.push(`level ${level}`);
  if (threads !== undefined) parts.push(formatThreads(threads));
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}

/**
 * Returns a warning if a run that resumes rounds differently from the run before; null if not, or if that is unknown. `what`: what was saved, with its verb. Names
 * the settings that restore the level and the number of threads, if nothing else differs.
 */
export function roundingWarning(what: string, saved: Rounding, current: Rounding): string | null {
  const settings: string[] = [];
  if (saved.level !== undefined && current.level !== undefined && saved.level !== current.level)
    settings.push(`NEXTVLAD_ISA=${saved.level}`);
  if (saved.threads !== undefined && current.threads !== undefined && saved.threads !== current.threads)
    settings.push(`--threads ${saved.threads}`);
  const isSameSoftware = saved.software === current.software;
  if (isSameSoftware && settings.length === 0) return null;
  const format = (rounding: Rounding): string => rounding.software + describeProcessor(rounding);
  const remedy = isSameSoftware ? `; to restore them, use ${settings.join(" and ")}` : "";
  return `${what} with ${format(saved)}, and this run uses ${format(current)}: the last digits will differ${remedy}`;
}
