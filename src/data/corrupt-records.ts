import { type CorruptExtent, type ErrorDetails, NextvladError, type SerializedError, serializeError } from "../base/errors.js";
import type { CorruptPolicy } from "../config/value-types.js";

/**
 * Maximum number of corrupt records per shard. Past it, the rest of the shard is skipped and no more problems are reported. A YouTube-8M shard has about 1,200
 * records.
 */
export const MAX_FILE_PROBLEMS = 10_000;

/** Returns the error that ends a shard with too many corrupt records; the details are those of the last one. */
export function tooManyProblems({ file, record }: ErrorDetails): NextvladError {
  return new NextvladError(
    "CORRUPT_RECORD",
    `more than ${MAX_FILE_PROBLEMS} records of this shard are corrupt: the rest of it is not read`,
    {
      ...(file === undefined ? {} : { file }),
      ...(record === undefined ? {} : { record }),
      remedy: "download the shard again, or remove it from the list",
      damaged: "rest of shard",
    },
  );
}

/** A record, or the rest of a shard, that was skipped. */
export interface SkippedRecord {
  /** The error. Its details name the shard and, if known, the record, byte and video. */
  readonly error: SerializedError;
  readonly extent: CorruptExtent;
}

/**
 * Filters the errors of a shard: collects the corrupt data that the policy skips, and throws all other errors. Only errors with `damaged` are about corrupt
 * data. A mistake that may affect the whole data set or the config (labels out of range, another feature size, a missing or unreadable file) is always thrown.
 */
export class CorruptRecordFilter {
  readonly #policy: CorruptPolicy;
  #skipped: SkippedRecord[] = [];
  #records = 0;

  constructor(policy: CorruptPolicy) {
    this.#policy = policy;
  }

  /** Returns what was skipped since the last call. */
  take(): readonly SkippedRecord[] {
    const skipped = this.#skipped;
    this.#skipped = [];
    return skipped;
  }

  /** Returns a record's video, as made by `parse`; null if the record is corrupt and skipped. Throws all other errors of `parse`. */
  async tryParse<T>(parse: () => T | Promise<T>): Promise<T | null> {
    try {
      return await parse();
    } catch (error) {
      this.skipRecord(error);
      return null;
    }
  }

  /**
   * Skips a corrupt record. Throws the error if it is about something else or the policy does not skip single records, and CORRUPT_RECORD if there are too
   * many.
   */
  skipRecord(error: unknown): void {
    if (!(error instanceof NextvladError) || error.details.damaged !== "record" || this.#policy !== "skip-record") throw error;
    if (++this.#records > MAX_FILE_PROBLEMS) throw tooManyProblems(error.details);
    this.#skipped.push({ error: serializeError(error), extent: "record" });
  }

  /** Skips the rest of the shard. Throws the error if it is not about corrupt data, or the policy is "error". */
  skipRest(error: unknown): void {
    if (!(error instanceof NextvladError) || !canSkip(error, this.#policy)) throw error;
    this.#skipped.push({ error: serializeError(error), extent: "rest of shard" });
  }
}

/** How a user skips corrupt records: the flag, or the setting of a command without that flag. */
export type SkipOption = "--on-corrupt skip-record" | "--set TEST.on_corrupt=skip-record";

/** Adds how to skip corrupt records to an error about them, once; returns other errors unchanged. */
export function adviseSkipping<E>(error: E, option: SkipOption = "--on-corrupt skip-record"): E | NextvladError {
  if (!(error instanceof NextvladError) || error.details.damaged === undefined) return error;
  const { code, what, details, cause } = error;
  const advice = `skip corrupt records with ${option}`;
  if (details.remedy?.endsWith(advice)) return error;
  return new NextvladError(
    code,
    what,
    { ...details, remedy: details.remedy === undefined ? advice : `${details.remedy}; or ${advice}` },
    cause,
  );
}

/** Whether the policy skips the data that an error is about. */
export function canSkip({ details }: NextvladError, policy: CorruptPolicy): boolean {
  return details.damaged !== undefined && policy !== "error";
}
