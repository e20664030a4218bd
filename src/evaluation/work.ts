import { crc32c } from "@node-rs/crc32";
import type { Config } from "../config/schema.js";
import { type ShardList, tellShards } from "../data/shard-list.js";
import { formatChecksum } from "../formats/crc32c.js";
import type { ResultTarget } from "../results/result-writer.js";

/** Keys that a run may go on with another value of: where things lie, what reads and computes them, and limits. */
const OF_NO_ACCOUNT: ReadonlySet<string> = new Set(["eigen_file", "filelist", "max_record_bytes", "num_readers", "use_gpu"]);

/** What the results of `eval` and `infer` hang on, by the key or flag that says it: see `refuseOtherWork`. */
export function describeWork(
  config: Config,
  section: "TEST" | "INFER",
  { batchSize, shards, weights }: { readonly batchSize: number; readonly shards: ShardList; readonly weights: string },
): Record<string, string> {
  const keys = (["MODEL", section] as const).flatMap((name) =>
    Object.entries(config[name])
      .filter(([key]) => !OF_NO_ACCOUNT.has(key))
      .map(([key, value]) => [`${name}.${key}`, String(value)] as const),
  );
  return {
    ...Object.fromEntries(keys),
    [`${section}.batch_size`]: String(batchSize),
    [`${section}.filelist`]: tellShards(shards),
    "--weights": `weights with checksum ${weights}`,
  };
}

/** The same of the files of predictions; `flag` names their formats. */
export function describeTarget(flag: string, target: ResultTarget | null): Record<string, string> {
  if (target === null) return {};
  const { formats, names } = target;
  return { [flag]: formats.join(","), ...(names === null ? {} : { "--labels": `names with checksum ${names.checksum()}` }) };
}

/** What tells weights from others: a checksum of their names and values, in whatever order and format they come. */
export class WeightsChecksum {
  readonly #lines: string[] = [];

  add(name: string, values: Float32Array): void {
    const crc = crc32c(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    this.#lines.push(`${name} ${formatChecksum(crc)}\n`);
  }

  toString(): string {
    return formatChecksum(crc32c(this.#lines.sort().join("")));
  }
}
