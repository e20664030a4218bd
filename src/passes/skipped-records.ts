import { join } from "node:path";
import type { Logger } from "pino";
import { escapeBytes } from "../base/byte-text.js";
import { type CorruptExtent, deserializeError, type ErrorCode } from "../base/errors.js";
import type { SkippedRecord } from "../data/corrupt-records.js";
import { IncidentList, shouldLog } from "../telemetry/incident-list.js";

/** A skipped part of a shard, as listed in `*.corrupt_records.json`. */
interface CorruptRecord {
  readonly shard: string | null;
  /** Index in the shard, from 0; null if unknown. */
  readonly record: number | null;
  /** Position in the uncompressed shard; null if unknown. */
  readonly byte_offset: number | null;
  readonly video: string | null;
  readonly code: ErrorCode;
  readonly what: string;
  readonly skipped: CorruptExtent;
}

/**
 * Reports corrupt data that a command skips: a warning for each skipped record or rest of a shard (rate-limited), a summary at the end of each pass, and a list
 * next to the results.
 */
export class SkippedRecordReport {
  readonly #log: Logger;
  readonly #list: IncidentList<CorruptRecord>;
  /** Counts of the current pass. */
  #counts = { records: 0, rests: 0 };

  constructor(saveDir: string, command: "train" | "eval" | "infer" | "ensemble", log: Logger) {
    this.#log = log;
    this.#list = new IncidentList(join(saveDir, `${command}.corrupt_records.json`), log);
  }

  /** Runs a pass in the middle of another one: what it skips does not count for that one. */
  async inner<T>(pass: () => Promise<T>): Promise<T> {
    const outer = this.#counts;
    this.#counts = { records: 0, rests: 0 };
    try {
      return await pass();
    } finally {
      this.#counts = outer;
    }
  }

  /** Loads the list of the resumed run, or removes that of another run. */
  start(isResumed: boolean): Promise<void> {
    return this.#list.start(isResumed);
  }

  /** Lists and logs what a stream skipped. */
  add(skipped: readonly SkippedRecord[]): void {
    for (const { error, extent } of skipped) {
      const { code, what, details } = error;
      const { file: shard = null, record = null, byteOffset: byte_offset = null } = details;
      const video = details.video === undefined ? null : escapeBytes(details.video);
      this.#list.add({ shard, record, byte_offset, video, code, what, skipped: extent });
      if (extent === "record") this.#counts.records++;
      else this.#counts.rests++;
      const count = this.#counts.records + this.#counts.rests;
      if (!shouldLog(count)) continue;
      this.#log.warn(
        { code, ...details, ...(video === null ? {} : { video }), skipped: extent },
        `skipped ${extent === "record" ? "a corrupt record" : "the rest of a corrupt shard"}: ${deserializeError(error).message}`,
      );
    }
  }

  /** Ends a pass over the data: if anything was skipped, writes the list and logs the counts. */
  async endPass(title: string): Promise<void> {
    const { records, rests } = this.#counts;
    if (records + rests === 0) return;
    await this.#list.write();
    this.#counts = { records: 0, rests: 0 };
    const parts = [
      ...(records > 0 ? [`${records} corrupt ${records === 1 ? "record" : "records"}`] : []),
      ...(rests > 0 ? [`the rest of ${rests} corrupt ${rests === 1 ? "shard" : "shards"}`] : []),
    ];
    this.#log.warn(
      { skipped_records: records, skipped_rests: rests },
      `${title}: skipped ${parts.join(" and ")}, listed in ${this.#list.path}`,
    );
  }
}
