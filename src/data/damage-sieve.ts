import { type Damage, type ErrorDetails, NextvladError, type SerialisedError, serialiseError } from "../base/errors.js";

/**
 * What a run does about a shard's bad bytes. "error": it ends. "skip-record": it does without the record, or without the rest of the shard where no next
 * record can be found (a bad length, a missing end, damaged compression). "skip-shard": it does without the rest of the shard at the first of them.
 */
export type CorruptPolicy = "error" | "skip-record" | "skip-shard";

/** Corrupt records of one shard after which its rest is skipped, and no more problems of it are reported: a shard of YouTube-8M has some 1,200 records. */
export const MAX_FILE_PROBLEMS = 10_000;

/** The error that ends a shard with too many corrupt records; `place` is that of the last. */
export function tooManyProblems({ file, record }: ErrorDetails): NextvladError {
  return new NextvladError("CORRUPT_RECORD", `more than ${MAX_FILE_PROBLEMS} records of this shard are corrupt, so its rest is not read`, {
    ...(file === undefined ? {} : { file }),
    ...(record === undefined ? {} : { record }),
    remedy: "download the shard again, or remove it from the list",
    damaged: "rest of shard",
  });
}

/** Something that a run did without. */
export interface LeftOut {
  /** What is wrong; its details name the shard and, as far as they are known, record, byte and video. */
  readonly error: SerialisedError;
  readonly extent: Damage;
}

/**
 * Sorts what is wrong with a shard: damage that the policy does without is noted, all else is thrown. Damage is what its error says is (`damaged`): a
 * mistake that the whole data set or the config may share (labels out of range, another feature size, a missing or unreadable file) never is.
 */
export class DamageSieve {
  readonly #policy: CorruptPolicy;
  #noted: LeftOut[] = [];
  #records = 0;

  constructor(policy: CorruptPolicy) {
    this.#policy = policy;
  }

  /** What was left out since this was last asked for. */
  take(): readonly LeftOut[] {
    const noted = this.#noted;
    this.#noted = [];
    return noted;
  }

  /** Makes a record's video; null where the record is damaged and left out. Throws what `make` throws of other kinds. */
  async pass<T>(make: () => T | Promise<T>): Promise<T | null> {
    try {
      return await make();
    } catch (error) {
      this.leaveRecord(error);
      return null;
    }
  }

  /** Notes a damaged record. Throws an error that is none, or ends more than the record. */
  leaveRecord(error: unknown): void {
    if (!(error instanceof NextvladError) || error.details.damaged !== "record" || this.#policy !== "skip-record") throw error;
    if (++this.#records > MAX_FILE_PROBLEMS) throw tooManyProblems(error.details);
    this.#noted.push({ error: serialiseError(error), extent: "record" });
  }

  /** Notes damage that the shard cannot be read past. Throws an error of another kind. */
  endShard(error: unknown): void {
    if (!(error instanceof NextvladError) || !isPassedOver(error, this.#policy)) throw error;
    this.#noted.push({ error: serialiseError(error), extent: "rest of shard" });
  }
}

/** How a user skips corrupt records; a command without the flag takes a setting. */
export type SkipOption = "--on-corrupt skip-record" | "--set TEST.on_corrupt=skip-record";

/** Adds to an error about corrupt data how to skip it, once; returns other errors as they are. */
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

/** Whether a run goes on past what is wrong with a shard. */
export function isPassedOver({ details }: NextvladError, policy: CorruptPolicy): boolean {
  return details.damaged !== undefined && policy !== "error";
}
