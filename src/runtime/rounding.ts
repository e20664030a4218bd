import { formatThreads } from "../base/threads.js";
import type { Device } from "./runtime.js";

/** What the last digits of results depend on, besides the code. A pass has the same results on any number of ranks. */
export interface Rounding {
  /** TensorFlow's version, and the kind of device. */
  readonly software: string;
  /** Processor level of our CPU kernels; undefined on a GPU, or if an older version did not record it. */
  readonly level?: string | undefined;
  /** Number of threads of the CPU kernels; undefined on a GPU, or if an older version did not record it. */
  readonly threads?: number | undefined;
}

/** What the last digits of a training run depend on, besides the code. Each rank sums over its share of a batch, part by part. */
export interface TrainingRounding extends Rounding {
  /** Number of ranks, at least 1; undefined if an older version did not record it. */
  readonly ranks?: number | undefined;
  /** Number of parts of TRAIN.accumulate, at least 1; undefined if an older version did not record it. */
  readonly parts?: number | undefined;
}

/** What a user can set, in the order of a warning, with the setting without its value. */
const SETTINGS = [
  ["level", "NEXTVLAD_ISA="],
  ["threads", "--threads "],
  ["ranks", "--devices "],
  ["parts", "--accumulate "],
] as const;

/** Returns the version of TensorFlow and the kind of device ("cpu" or "gpu") as text. */
export function describeSoftware(tensorflow: string, device: string): string {
  return `TensorFlow ${tensorflow} on the ${device.toUpperCase()}`;
}

/** Returns what the results of a device depend on. Sums over threads run on the CPU only. */
export function roundingOf({ kind, level, threads, tensorflowVersion }: Device): Rounding {
  const software = describeSoftware(tensorflowVersion, kind);
  return kind === "cpu" ? { software, level, threads: threads.count } : { software };
}

/**
 * Returns the level and the numbers of threads, ranks and parts in parentheses, with a space before, except those that are unknown, and a single rank or part;
 * empty if none is left.
 */
export function describeComputation({ level, threads, ranks = 1, parts = 1 }: Omit<TrainingRounding, "software">): string {
  const found: string[] = [];
  if (level !== undefined) found.push(`level ${level}`);
  if (threads !== undefined) found.push(formatThreads(threads));
  if (ranks > 1) found.push(`${ranks} ranks`);
  if (parts > 1) found.push(`${parts} parts`);
  return found.length === 0 ? "" : ` (${found.join(", ")})`;
}

/**
 * Returns a warning if a run that resumes rounds differently from the run before; null if not, or if that is unknown. `what`: what was saved, with its verb. Names
 * the settings that restore the last digits, unless the software differs.
 */
export function roundingWarning(what: string, saved: TrainingRounding, current: TrainingRounding): string | null {
  const settings = SETTINGS.flatMap(([key, setting]) => {
    const [before, now] = [saved[key], current[key]];
    return before === undefined || now === undefined || before === now ? [] : [`${setting}${before}`];
  });
  const isSameSoftware = saved.software === current.software;
  if (isSameSoftware && settings.length === 0) return null;
  const format = (rounding: TrainingRounding): string => rounding.software + describeComputation(rounding);
  const remedy = isSameSoftware ? `; to restore them, use ${new Intl.ListFormat("en-GB").format(settings)}` : "";
  return `${what} with ${format(saved)}, and this run uses ${format(current)}: the last digits will differ${remedy}`;
}
