import { z } from "zod";
import { readLines } from "../formats/lines.js";

/** The values of a training step in the log that the report shows. */
export const STEP_VALUES = ["loss", "gap", "perr", "hit_at_one", "learning_rate", "videos_per_second", "wait_share"] as const;
export type StepValue = (typeof STEP_VALUES)[number];

/** The means of consecutive log lines. */
export interface LoggedSteps {
  /** The first and the last of the steps. */
  readonly first: number;
  readonly last: number;
  /** Null if no line has the value, or it is NaN or Inf. */
  readonly values: Readonly<Record<StepValue, number | null>>;
}

/** A validation in the log. */
export interface LoggedValidation {
  readonly epoch: number;
  /** The step before it; in logs of older versions, the last one that was logged before it. */
  readonly step: number;
  readonly values: Readonly<Record<"loss" | "gap" | "perr" | "hit_at_one" | "map", number | null>>;
}

/** Warnings and errors with the same text. */
export interface LoggedWarning {
  readonly message: string;
  count: number;
}

/** What the report shows of a training run's log. */
export interface RunLog {
  readonly steps: readonly LoggedSteps[];
  readonly validations: readonly LoggedValidation[];
  readonly warnings: readonly LoggedWarning[];
  /** The epoch of the last step; null without steps. */
  readonly lastEpoch: number | null;
  /** Times of the first and last line; null without any. */
  readonly times: { readonly first: string; readonly last: string } | null;
}

/** Maximum number of points of a curve. With more log lines, a point is the mean of 2, 4, 8, ... lines. */
const MAX_POINTS = 1200; // Even: see `#halve`.
const MAX_VALIDATIONS = 1000;
const MAX_WARNINGS = 20;
/** Level of warnings in pino. */
const WARN = 40;

/** JSON has no NaN: pino writes null. */
const value = z.number().nullish().catch(null);
const lineSchema = z.object({
  level: z.number().catch(0),
  time: z.string().max(40).nullish().catch(null),
  msg: z.string().catch(""),
  epoch: z.int().min(0).nullish().catch(null),
  step: z.int().min(0).nullish().catch(null),
  ...{ loss: value, gap: value, perr: value, hit_at_one: value, map: value, learning_rate: value },
  ...{ videos_per_second: value, wait_share: value },
});
type LogLine = z.output<typeof lineSchema>;

/** Consecutive lines: sums and counts of their values. */
interface Bucket {
  first: number;
  last: number;
  readonly sums: Float64Array;
  readonly counts: Float64Array;
}

/**
 * Reads the log of a training run (`train.log.jsonl`) in bounded memory. Where a run was resumed from an earlier step, or another run followed in the same
 * save-dir, the later lines replace the earlier ones from that step on. Lines that are not JSON objects, such as one that a crash has cut, are skipped.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT (not text).
 */
export async function readRunLog(path: string): Promise<RunLog> {
  const collector = new LogCollector();
  for await (const { text } of readLines(path)) {
    const line = parseLine(text);
    if (line !== null) collector.add(line);
  }
  return collector.result();
}

function parseLine(text: string): LogLine | null {
  try {
    const parsed = lineSchema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

class LogCollector {
  #buckets: Bucket[] = [];
  #linesPerBucket = 1;
  /** Lines in the last bucket. */
  #filled = 0;
  readonly #validations: LoggedValidation[] = [];
  readonly #warnings = new Map<string, LoggedWarning>();
  #lastEpoch: number | null = null;
  #times: { first: string; last: string } | null = null;

  add(line: LogLine): void {
    const { time, level, msg, step, epoch, learning_rate, gap, map } = line;
    if (typeof time === "string") this.#times = { first: this.#times?.first ?? time, last: time };
    if (level >= WARN) this.#addWarning(msg);
    if (typeof step === "number" && typeof learning_rate === "number") this.#addStep(step, line);
    else if (typeof epoch === "number" && typeof gap === "number" && typeof map === "number") this.#addValidation(epoch, line);
  }

  result(): RunLog {
    const steps = this.#buckets.map(({ first, last, sums, counts }) => {
      const mean = (i: number): number | null => ((counts[i] as number) > 0 ? (sums[i] as number) / (counts[i] as number) : null);
      return { first, last, values: Object.fromEntries(STEP_VALUES.map((name, i) => [name, mean(i)])) as LoggedSteps["values"] };
    });
    const warnings = [...this.#warnings.values()];
    return { steps, validations: this.#validations, warnings, lastEpoch: this.#lastEpoch, times: this.#times };
  }

  #addStep(step: number, line: LogLine): void {
    const last = this.#buckets.at(-1);
    if (last !== undefined && step <= last.last) this.#rewind(step);
    if (this.#buckets.length === 0 || this.#filled >= this.#linesPerBucket) {
      this.#buckets.push({
        first: step,
        last: step,
        sums: new Float64Array(STEP_VALUES.length),
        counts: new Float64Array(STEP_VALUES.length),
      });
      this.#filled = 0;
    }
    const bucket = this.#buckets.at(-1) as Bucket;
    bucket.last = step;
    this.#filled++;
    for (const [i, name] of STEP_VALUES.entries()) addTo(bucket, i, line[name] ?? Number.NaN, 1);
    if (typeof line.epoch === "number") this.#lastEpoch = line.epoch;
    if (this.#buckets.length > MAX_POINTS) this.#halve();
  }

  #addValidation(epoch: number, { step: logged, loss, gap, perr, hit_at_one, map }: LogLine): void {
    const step = logged ?? this.#buckets.at(-1)?.last ?? 0;
    const values = { loss: loss ?? null, gap: gap ?? null, perr: perr ?? null, hit_at_one: hit_at_one ?? null, map: map ?? null };
    // A resumed run repeats a validation that was not saved.
    removeFromEnd(this.#validations, (other) => (typeof logged === "number" ? other.step >= step : other.epoch >= epoch));
    this.#validations.push({ epoch, step, values });
    if (this.#validations.length > MAX_VALIDATIONS) this.#validations.shift();
  }

  #addWarning(message: string): void {
    const known = this.#warnings.get(message);
    if (known !== undefined) known.count++;
    else if (this.#warnings.size < MAX_WARNINGS) this.#warnings.set(message, { message, count: 1 });
  }

  /** Removes what was logged from a step on. A point that contains earlier steps, too, stays. */
  #rewind(step: number): void {
    removeFromEnd(this.#buckets, ({ first }) => first >= step);
    this.#filled = this.#linesPerBucket;
    const last = this.#buckets.at(-1);
    if (last !== undefined) last.last = Math.min(last.last, step - 1);
    removeFromEnd(this.#validations, (validation) => validation.step >= step);
  }

  /** Merges each pair of points. */
  #halve(): void {
    const merged: Bucket[] = [];
    for (const [i, bucket] of this.#buckets.entries()) {
      const before = merged.at(-1);
      if (i % 2 === 0 || before === undefined) {
        merged.push(bucket);
        continue;
      }
      before.last = bucket.last;
      for (const at of STEP_VALUES.keys()) addTo(before, at, bucket.sums[at] as number, bucket.counts[at] as number);
    }
    // The number of points is odd: the last one, of a single line, is on its own.
    this.#buckets = merged;
    this.#linesPerBucket *= 2;
  }
}

/** Adds a sum of `count` values to the i-th value of a bucket, unless it is NaN or Inf. */
function addTo({ sums, counts }: Bucket, i: number, sum: number, count: number): void {
  if (!Number.isFinite(sum)) return;
  sums[i] = (sums[i] as number) + sum;
  counts[i] = (counts[i] as number) + count;
}

/** Removes the last items, as long as they fulfil the condition. */
function removeFromEnd<T>(items: T[], isRemoved: (item: T) => boolean): void {
  for (let last = items.at(-1); last !== undefined && isRemoved(last); last = items.at(-1)) items.pop();
}
