import { type Damage, type ErrorDetails, NextvladError, type SerialisedError, serialiseError } from "../base/errors.js";

/**
 * What to do about corrupt data in a shard. "error": the run ends. "skip-record": skips the record, or the rest of the shard if the next record cannot be found
 * (an invalid length, a truncated file, corrupt compression). "skip-shard": skips the rest of the shard at the first corrupt record.
 */
export type CorruptPolicy = "error" | "skip-record" | "skip-shard";

/**
 * Maximum number of corrupt records per shard. Past it, the rest of the shard is skipped and no more problems are reported. A YouTube-8M shard has about 1,200
 * records.
 */
export const MAX_FILE_PROBLEMS = 10_000;

/** Returns the error that ends a shard with too many corrupt records; the details are those of the last one. */
export function tooManyProblems({ file, record }: ErrorDetails): NextvladError {
  return new NextvladError("CORRUPT_RECORD", `more than ${MAX_FILE_PROBLEMS} records of this shard are corrupt, so its rest is not read`, {
    ...(file === undefined ? {} : { file }),
    ...(record === undefined ? {} : { record }),
    remedy: "download the shard again, or remove it from the list",
    damaged: "rest of shard",
  });
}

/** A record, or the rest of a shard, that was skipped. */
export interface LeftOut {
  /** The error. Its details name the shard and, if known, the record, byte and video. */
  readonly error: SerialisedError;
  readonly extent: Damage;
}

/**
 * Filters the errors of a shard: notes the corrupt data that the policy skips, and throws all other errors. Only errors with `damaged` are about corrupt data.
 * A mistake that may affect the whole data set or the config (labels out of range, another feature size, a missing or unreadable file) is always thrown.
 */
export class DamageSieve {
  readonly #policy: CorruptPolicy;
  #noted: LeftOut[] = [];
  #records = 0;

  constructor(policy: CorruptPolicy) {
    this.#policy = policy;
  }

  /** Returns what was skipped since the last call. */
  take(): readonly LeftOut[] {
    const noted = this.#noted;
    this.#noted = [];
    return noted;
  }

  /** Returns a record's video, as made by `make`; null if the record is corrupt and skipped. Throws all other errors of `make`. */
  async pass<T>(make: () => T | Promise<T>): Promise<T | null> {
    try {
      return await make();
    } catch (error) {
      this.leaveRecord(error);
      return null;
    }
  }

  /**
   * Notes a corrupt record. Throws the error if it is about something else or the policy does not skip single records, and CORRUPT_RECORD if there are too
   * many.
   */
  leaveRecord(error: unknown): void {
    if (!(error instanceof NextvladError) || error.details.damaged !== "record" || this.#policy !== "skip-record") throw error;
    if (++this.#records > MAX_FILE_PROBLEMS) throw tooManyProblems(error.details);
    this.#noted.push({ error: serialiseError(error), extent: "record" });
  }

  /** Notes that the rest of the shard is skipped. Throws the error if it is not about corrupt data, or the policy is "error". */
  endShard(error: unknown): void {
    if (!(error instanceof NextvladError) || !isPassedOver(error, this.#policy)) throw error;
    this.#noted.push({ error: serialiseError(error), extent: "rest of shard" });
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
export function isPassedOver({ details }: NextvladError, policy: CorruptPolicy): boolean {
  return details.damaged !== undefined && policy !== "error";
}
