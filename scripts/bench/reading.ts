import type { Config } from "../../src/config/schema.js";
import { resolveShards } from "../../src/data/file-list.js";
import { openReading } from "../../src/passes/reading.js";

/** As in bench_read.py, which reports the median of seven passes. */
const PASSES = 7;

/** Which shards to read, and how. */
export interface ReadSettings {
  readonly directory: string;
  readonly batch: number;
  /** Number of reader threads. */
  readonly readers: number;
}

/** Reads a directory's shards repeatedly, as evaluation does. Returns the seconds of each pass and the size of the shards in megabytes (10^6 bytes). */
export async function timeReading(
  { directory, batch, readers }: ReadSettings,
  { MODEL }: Config,
): Promise<{ readonly seconds: readonly number[]; readonly megabytes: number }> {
  const shards = await resolveShards("*.tfrecord", { cwd: directory });
  const seconds: number[] = [];
  for (let pass = 0; pass < PASSES; pass++) {
    const start = performance.now();
    const stream = openReading({ model: MODEL, labels: "required", shards, batchSize: batch, readers, onCorrupt: "error" });
    let videos = 0;
    for await (const { ids } of stream) videos += ids.length;
    if (videos === 0) throw new RangeError(`no video in ${directory}`);
    seconds.push((performance.now() - start) / 1000);
  }
  return { seconds, megabytes: shards.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6 };
}
