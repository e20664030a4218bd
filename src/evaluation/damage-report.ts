import { join } from "node:path";
import type { Logger } from "pino";
import { escapeBytes } from "../base/byte-text.js";
import { type Damage, deserialiseError, type ErrorCode } from "../base/errors.js";
import type { LeftOut } from "../data/damage-sieve.js";
import { IncidentList } from "../telemetry/incident-list.js";
import { isWorthTelling } from "../telemetry/sparing.js";

/** Damaged data that a run did without, as `*.corrupt_records.json` has it. */
interface CorruptRecord {
  readonly shard: string | null;
  /** Its number in the shard, from 0; null where that cannot be told. */
  readonly record: number | null;
  /** In the uncompressed shard. */
  readonly byte_offset: number | null;
  readonly video: string | null;
  readonly code: ErrorCode;
  readonly what: string;
  readonly left_out: Damage;
}

/** Tells of damaged data that a command does without: a warning for each as it is met, a line at the end of each pass, and a list beside the results. */
export class DamageReport {
  readonly #log: Logger;
  readonly #list: IncidentList<CorruptRecord>;
  /** In the pass at hand. */
  #counts = { records: 0, rests: 0 };

  constructor(saveDir: string, command: "train" | "eval" | "infer" | "ensemble", log: Logger) {
    this.#log = log;
    this.#list = new IncidentList(join(saveDir, `${command}.corrupt_records.json`), log);
  }

  /** Takes over the list of the run that is gone on with, or removes another run's. */
  begin(goesOn: boolean): Promise<void> {
    return this.#list.begin(goesOn);
  }

  /** Whether anything was left out so far. */
  get hasAny(): boolean {
    return this.#list.size > 0;
  }

  /** Notes what a stream tells. */
  note(parts: readonly LeftOut[]): void {
    for (const { error, extent } of parts) {
      const { code, what, details } = error;
      const { file: shard = null, record = null, byteOffset: byte_offset = null } = details;
      const video = details.video === undefined ? null : escapeBytes(details.video);
      this.#list.add({ shard, record, byte_offset, video, code, what, left_out: extent });
      if (extent === "record") this.#counts.records++;
      else this.#counts.rests++;
      const count = this.#counts.records + this.#counts.rests;
      if (!isWorthTelling(count)) continue;
      const words = extent === "record" ? "left out this record" : "left out the rest of this shard";
      this.#log.warn(
        { code, ...details, ...(video === null ? {} : { video }), left_out: extent },
        `${words}: ${deserialiseError(error).message}`,
      );
    }
  }

  /** Ends a pass over the data: writes the list, and tells how much was left out, if anything was. */
  async conclude(title: string): Promise<void> {
    const { records, rests } = this.#counts;
    if (records + rests === 0) return;
    await this.#list.write();
    this.#counts = { records: 0, rests: 0 };
    const parts = [
      ...(records > 0 ? [`${records} ${records === 1 ? "record" : "records"}`] : []),
      ...(rests > 0 ? [`the rest of ${rests} ${rests === 1 ? "shard" : "shards"}`] : []),
    ];
    this.#log.warn(
      { left_out_records: records, left_out_rests: rests },
      `${title}: left out ${parts.join(" and ")} for damage, listed in ${this.#list.path}`,
    );
  }
}
