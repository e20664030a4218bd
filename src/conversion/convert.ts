import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { deserializeError } from "../base/errors.js";
import { confirmLock, lockDirectory } from "../base/lock.js";
import { requireProcessLimits } from "../base/resource-limits.js";
import { describeWait, SlowWatch, untilStopped } from "../base/waiting.js";
import { allEmpty, describeEmpty, describeSegments } from "../data/shard.js";
import { startWorker, workerExitError } from "../data/worker-thread.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { ConversionReply, ConversionResult, ConversionTask } from "./convert-worker.js";
import { assertSameSizes, type FeatureSizes, mergeStatistics, NO_VALUES, type ValueStatistics } from "./features.js";
import { type Ledger, openLedger } from "./ledger.js";
import type { ConversionPlan, PlannedShard } from "./plan.js";

export interface ConvertOptions {
  /** An existing directory. */
  readonly out: string;
  /** Number of worker threads; each converts one shard at a time. */
  readonly workers: number;
  /** Whether to replace shards and a list that convert did not write. */
  readonly overwrite?: boolean;
  /** When aborted, shards in progress are finished and no other is started. */
  readonly signal: AbortSignal;
  readonly telemetry: Telemetry;
  /** Warn about a shard that takes longer than this; a minute by default. */
  readonly slowMs?: number;
  /** Time for shards in progress to finish after a stop signal; 20 s by default. The next run converts those that do not finish. */
  readonly finishMs?: number;
}

export interface ConvertOutcome {
  readonly stopped: boolean;
  /** Number of videos in the shards converted by this run. */
  readonly videos: number;
  readonly shardsConverted: number;
  /** Number of shards that an earlier run converted from the same sources. */
  readonly shardsUpToDate: number;
  /** Feature sizes of the shards converted by this run; null if it converted no video. */
  readonly sizes: FeatureSizes | null;
  /** Statistics of the values quantized by this run: rgb, audio. */
  readonly statistics: readonly [ValueStatistics, ValueStatistics];
  /** Videos truncated to their shorter modality, which had one frame fewer. */
  readonly cutVideos: number;
  /** The path of the list of all shards; null if some are not converted yet. */
  readonly list: string | null;
}

const FINISH_MS = 20_000;

const MODULE = new URL("./convert-worker.js", import.meta.url);

/** A TFRecord file without records has 0 bytes and a pickled empty list has a few; the framing of one record alone takes 16. */
const MAX_EMPTY_BYTES = 15;

/**
 * Converts the plan's shards, one per worker at a time, then writes the list that names them (relative to its own directory, so that all can be moved). Shards
 * that an earlier run converted from the same sources are reused. After an error, shards in progress are finished first, for the next run.
 * The directory is locked for one run at a time. Throws what `openLedger` and `convertShard` throw, SAVE_DIR_TAKEN and WORKER_DIED; FILE_UNWRITABLE also if the
 * directory is removed meanwhile.
 */
export async function convert(plan: ConversionPlan, options: ConvertOptions): Promise<ConvertOutcome> {
  const lock = await lockDirectory(options.out);
  try {
    return await convertLocked(plan, options, lock.text);
  } finally {
    await lock.release();
  }
}

async function convertLocked(plan: ConversionPlan, options: ConvertOptions, lockText: string): Promise<ConvertOutcome> {
  for (const warning of plan.warnings) options.telemetry.log.warn(warning);
  const ledger = await openLedger(options.out, plan, options.overwrite);
  const { pending, upToDate } = ledger;
  if (upToDate.length > 0) options.telemetry.log.info(`${upToDate.length} of ${plan.shards.length} shards are up to date`);
  const conversion = new Conversion(ledger, options, lockText);
  await conversion.run().catch(async (error: unknown) => {
    const isLockOurs = await confirmLock(options.out, lockText).then(
      () => true,
      () => false,
    );
    // If no shard was converted, the entries of this run are not needed.
    if (conversion.shards === 0 && isLockOurs) await ledger.removeMissing();
    throw error;
  });
  // Otherwise the list could name shards that were removed with the directory.
  await confirmLock(options.out, lockText);
  const emptyShards = [...conversion.emptyShards, ...(await emptySources(upToDate))];
  conversion.warn(emptyShards, plan.shards.length);
  const stopped = conversion.shards < pending.length;
  const list = stopped ? null : join(options.out, plan.listName);
  if (emptyShards.length === plan.shards.length) {
    for (const { task } of plan.shards) await rm(task.output);
    await ledger.removeMissing();
    throw allEmpty(plan.list, plan.shards.length);
  }
  if (list !== null) await ledger.writeList();
  const { videos, shards: shardsConverted, sizes, statistics, cutVideos } = conversion;
  return { stopped, videos, shardsConverted, shardsUpToDate: upToDate.length, sizes, statistics, cutVideos, list };
}

/** Returns the sources of the shards without videos. */
async function emptySources(shards: readonly PlannedShard[]): Promise<string[]> {
  const sizes = await Promise.all(shards.map(({ task }) => stat(task.output).then(({ size }) => size)));
  return shards.flatMap(({ origin }, i) => ((sizes[i] as number) <= MAX_EMPTY_BYTES ? [origin.from] : []));
}

/** The progress of a conversion from its first shard to its last. */
class Conversion {
  videos = 0;
  shards = 0;
  cutVideos = 0;
  /** Sources of shards without videos. */
  readonly emptyShards: string[] = [];
  #segmentedVideos = 0;
  #repeatedIds = 0;
  sizes: FeatureSizes | null = null;
  statistics: readonly [ValueStatistics, ValueStatistics] = [NO_VALUES, NO_VALUES];
  readonly #ledger: Ledger;
  readonly #options: ConvertOptions;
  readonly #lockText: string;
  readonly #totalBytes: number;
  readonly #startMs = performance.now();
  #started = 0;
  #doneBytes = 0;
  #failure: unknown;
  #isListMissing = false;

  constructor(ledger: Ledger, options: ConvertOptions, lockText: string) {
    this.#lockText = lockText;
    this.#ledger = ledger;
    this.#options = options;
    this.#totalBytes = Math.max(
      1,
      ledger.pending.reduce((sum, { origin }) => sum + origin.bytes, 0),
    );
  }

  async run(): Promise<void> {
    const { progress } = this.#options.telemetry;
    progress.start("convert");
    try {
      const workers = Math.min(this.#options.workers, this.#ledger.pending.length);
      requireProcessLimits({ threads: workers }, "use fewer --workers");
      await Promise.all(Array.from({ length: workers }, () => this.#runWorker()));
    } finally {
      progress.end();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Warns about empty shards, repeated IDs and segment labels, once each. */
  warn(emptyShards: readonly string[], shards: number): void {
    const { log } = this.#options.telemetry;
    const empty = describeEmpty([...emptyShards].sort(), shards);
    if (empty !== null) log.warn(empty);
    if (this.#repeatedIds > 0) {
      const what = `${this.#repeatedIds} videos have the ID of another video in their shard (from clip/media_id or clip/data_path)`;
      log.warn(`${what}, so results cannot distinguish them; write a unique ID to the context feature id of each record`);
    }
    if (this.#segmentedVideos > 0) log.warn(describeSegments(this.#segmentedVideos, "videos"));
  }

  /** Converts the remaining shards in one worker thread, until none is left, one fails or a stop is requested. */
  async #runWorker(): Promise<void> {
    const worker = startConversionThread();
    const { finishMs = FINISH_MS } = this.#options;
    try {
      while (this.#failure === undefined && !this.#options.signal.aborted) {
        const shard = this.#ledger.pending[this.#started++];
        if (shard === undefined) break;
        await this.#ledger.start(shard);
        this.#addResult(shard, await this.#warnIfSlow(shard, untilStopped(shard.task.output, worker.run(shard.task), finishMs)));
        await confirmLock(this.#options.out, this.#lockText);
      }
    } catch (error) {
      this.#failure ??= error;
    } finally {
      await worker.stop();
    }
  }

  async #warnIfSlow<T>({ task }: PlannedShard, work: Promise<T>): Promise<T> {
    const { telemetry, slowMs } = this.#options;
    const warn = (waitedMs: number): void => telemetry.log.warn(describeWait(`converting ${task.output} has not finished`, waitedMs));
    const watch = new SlowWatch(warn, slowMs);
    watch.start();
    return await work.finally(() => watch.stop());
  }

  #addResult(
    { task, origin }: PlannedShard,
    { videos, sizes, statistics, cutVideos, segmentedVideos, missingList, repeatedIds }: ConversionResult,
  ): void {
    const { log, progress } = this.#options.telemetry;
    this.shards++;
    this.videos += videos;
    this.cutVideos += cutVideos;
    this.#segmentedVideos += segmentedVideos;
    this.#repeatedIds += repeatedIds;
    if (videos === 0) this.emptyShards.push(origin.from);
    if (missingList !== null && !this.#isListMissing) log.warn(`${origin.from} has ${missingList}`);
    this.#isListMissing ||= missingList !== null;
    this.#doneBytes += origin.bytes;
    this.statistics = [mergeStatistics(this.statistics[0], statistics[0]), mergeStatistics(this.statistics[1], statistics[1])];
    log.info({ shard: task.output, videos, from: origin.from }, `${task.output}: ${videos} videos`);
    const seconds = (performance.now() - this.#startMs) / 1000;
    const fraction = this.#doneBytes / this.#totalBytes;
    progress.update({
      fraction,
      videosPerSecond: this.videos / seconds,
      secondsLeft: fraction > 0 ? (seconds / fraction) * (1 - fraction) : Number.NaN,
    });
    if (sizes === null) return;
    if (this.sizes !== null) assertSameSizes(sizes, this.sizes, undefined, task.output);
    this.sizes = sizes;
  }
}

interface ConversionThread {
  /** Runs one task at a time. */
  run(task: ConversionTask): Promise<ConversionResult>;
  stop(): Promise<void>;
}

function startConversionThread(): ConversionThread {
  let current: ConversionTask | undefined;
  let pending: { resolve: (result: ConversionResult) => void; reject: (error: Error) => void } | undefined;
  const thread = startWorker<ConversionTask, ConversionReply>(MODULE, undefined, {
    onMessage(reply) {
      if (reply.type === "done") pending?.resolve(reply.result);
      else pending?.reject(deserializeError(reply.error));
    },
    onExit(exit) {
      const remedy = "run the command again to continue; use fewer --workers if memory is short";
      const files = current === undefined ? [] : [current.source.kind === "shard" ? current.source.path : current.output];
      pending?.reject(workerExitError("the conversion thread", exit, files, remedy));
    },
  });
  return {
    run(task) {
      return new Promise((resolve, reject) => {
        pending = { resolve, reject };
        current = task;
        thread.post(task);
      });
    },
    stop: () => thread.stop(),
  };
}
