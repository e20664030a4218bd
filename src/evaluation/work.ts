import { crc32c } from "@node-rs/crc32";
import type { Config } from "../config/schema.js";
import { formatFingerprint, type ListFingerprint } from "../data/shard.js";
import { formatChecksum } from "../formats/checksum.js";
import type { ResultTarget } from "../results/result-writer.js";

/** Config keys that a resumed run may change: file paths, readers, device, and limits. */
const OF_NO_ACCOUNT: ReadonlySet<string> = new Set(["eigen_file", "filelist", "max_record_bytes", "num_readers", "use_gpu"]);

/** Returns what the results of `eval` and `infer` depend on, by config key or flag: see `refuseOtherWork`. */
export function describeWork(
  config: Config,
  section: "TEST" | "INFER",
  { batchSize, shards, weights }: { readonly batchSize: number; readonly shards: ListFingerprint; readonly weights: string },
): Record<string, string> {
  const keys = (["MODEL", section] as const).flatMap((name) =>
    Object.entries(config[name])
      .filter(([key]) => !OF_NO_ACCOUNT.has(key))
      .map(([key, value]) => [`${name}.${key}`, String(value)] as const),
  );
  return {
    ...Object.fromEntries(keys),
    [`${section}.batch_size`]: String(batchSize),
    [`${section}.filelist`]: formatFingerprint(shards),
    "--weights": `weights with checksum ${weights}`,
  };
}

/** Returns the same for the prediction files; `flag` is the flag that sets their formats. */
export function describeTarget(flag: string, target: ResultTarget | null): Record<string, string> {
  if (target === null) return {};
  const { formats, names } = target;
  return { [flag]: formats.join(","), ...(names === null ? {} : { "--labels": `names with checksum ${names.checksum()}` }) };
}

/** A checksum of the names and values of weights, independent of their order and file format. */
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
