/**
 * Compares `nextvlad verify` with a bare loop that reads the same shards and computes the same checksums in the same number of threads, alternating between
 * the two. Each reads the list once with warm threads; the time to start and warm them up, which is independent of the list's length, is printed separately.
 */
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { resolveShards } from "../../src/data/file-list.js";
import type { Shard } from "../../src/data/shard.js";
import { verifyShards } from "../../src/inspection/verify.js";
import { spreadOf } from "./statistics.js";

const USAGE = "usage: node dist/scripts/bench/verify.js LIST [--readers 2] [--pairs 7] [--json]";
const SHAPE = { maxFrames: 300, featureNames: ["rgb", "audio"], featureSizes: [1024, 128], numClasses: 3862, labels: "required" } as const;

/** Returns the seconds of the bare loop, with its threads already running. */
async function timeBare(shards: readonly Shard[], workers: readonly Worker[]): Promise<number> {
  const startMs = performance.now();
  let next = 0;
  await Promise.all(
    workers.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          const readNext = (): void => {
            const shard = shards[next++];
            if (shard !== undefined) worker.postMessage(shard.path);
            else {
              worker.off("message", readNext);
              worker.off("error", reject);
              resolve();
            }
          };
          worker.on("message", readNext).on("error", reject);
          readNext();
        }),
    ),
  );
  return (performance.now() - startMs) / 1000;
}

/**
 * Returns the seconds of `verifyShards` on the list, first in newly started threads, then again in the same threads, up to the last byte. Excludes the work
 * after that: terminating the threads and checking for duplicate ids, all of which occur twice here.
 */
async function timeVerify(shards: readonly Shard[], bytes: number, readers: number): Promise<{ first: number; second: number }> {
  const startMs = performance.now();
  let halfMs = 0;
  let endMs = 0;
  const { shards: found } = await verifyShards([...shards, ...shards], {
    shape: SHAPE,
    readers,
    signal: new AbortController().signal,
    onProgress: (progress) => {
      endMs = performance.now();
      if (halfMs === 0 && progress.bytes >= bytes) halfMs = endMs;
    },
  });
  const wrong = found.find(({ state, listed }) => state !== "whole" || listed.length > 0);
  if (wrong !== undefined) throw new Error(`${wrong.path}: ${wrong.listed[0]?.what}`);
  return { first: (halfMs - startMs) / 1000, second: (endMs - halfMs) / 1000 };
}

async function compare(list: string, readers: number, pairs: number) {
  const shards = await resolveShards(list, { cwd: process.cwd() });
  const bytes = shards.reduce((sum, shard) => sum + shard.bytes, 0);
  const workers = Array.from({ length: readers }, () => new Worker(new URL("./bare-worker.js", import.meta.url)));
  const seconds = { bare: [] as number[], verify: [] as number[], start: [] as number[] };
  await timeBare(shards, workers);
  for (let pair = 0; pair < pairs; pair++) {
    const bare = await timeBare(shards, workers);
    const { first, second } = await timeVerify(shards, bytes, readers);
    seconds.bare.push(bare);
    seconds.verify.push(second);
    seconds.start.push(first - second);
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  const megabytes = bytes / 1e6;
  const rate = (times: readonly number[]): number => megabytes / spreadOf(times).median;
  const share = spreadOf(seconds.verify.map((time, pair) => (seconds.bare[pair] as number) / time));
  const start = spreadOf(seconds.start).median;
  return {
    megabytes,
    readers,
    pairs,
    bare_mb_per_second: rate(seconds.bare),
    verify_mb_per_second: rate(seconds.verify),
    share,
    start,
    seconds,
  };
}

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      readers: { type: "string", default: "2" },
      pairs: { type: "string", default: "7" },
      json: { type: "boolean", default: false },
    },
  });
  const [readers, pairs] = [Number(values.readers), Number(values.pairs)];
  if (positionals.length !== 1 || ![readers, pairs].every((count) => Number.isInteger(count) && count > 0)) throw new Error(USAGE);
  const result = await compare(positionals[0] as string, readers, pairs);
  const { megabytes, bare_mb_per_second: bare, verify_mb_per_second: verify, share, start } = result;
  const range = `${(100 * share.min).toFixed(0)}..${(100 * share.max).toFixed(0)} %`;
  const rates = `plain loop ${bare.toFixed(0)} MB/s, verify ${verify.toFixed(0)} MB/s: ${(100 * share.median).toFixed(0)} % (${range})`;
  const line = `${megabytes.toFixed(0)} MB, ${readers} threads: ${rates}; ${start.toFixed(2)} s more in the first pass, to start the threads`;
  process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : `${line}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
