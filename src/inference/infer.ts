import { availableMemory } from "../base/resource-limits.js";
import type { Config } from "../config/schema.js";
import { fingerprintList, readContents } from "../data/shard.js";
import { type EvaluateOptions, loadNetwork, noVideos, openReading } from "../evaluation/evaluate.js";
import { TopSelector } from "../evaluation/top-k.js";
import { topPredictions } from "../evaluation/top-predictions.js";
import { tellEvents, watchBatches } from "../evaluation/watched-batches.js";
import { describeTarget, describeWork } from "../evaluation/work.js";
import type { FrozenNetwork } from "../model/frozen.js";
import type { ResultTarget } from "../results/result-writer.js";
import { type BatchWriter, readPartialWork, writeResumably } from "../results/resumable-results.js";
import { tidy } from "../runtime/runtime.js";
import { toFloats } from "../runtime/transfer.js";
import { chooseBatchSize } from "./batch-size.js";

export interface InferOptions extends Omit<EvaluateOptions, "batchSize" | "saveDir" | "predictions"> {
  /** Null: the batch size of the resumed run, else that of `chooseBatchSize`. */
  readonly batchSize: number | null;
  /** Classes per video, at most the number of classes. */
  readonly topk: number;
  /** Where to write the results. */
  readonly target: ResultTarget;
}

export interface InferOutcome {
  readonly stopped: boolean;
  /** Videos done, including those of the runs that this one resumed. */
  readonly videos: number;
  /** Folder of the partial results if the pass stopped early; null if there are none. */
  readonly keptIn: string | null;
  /** Empty if the pass stopped early. */
  readonly resultFiles: readonly string[];
}

/**
 * Runs `nextvlad infer`: writes the most probable classes of every video to the result files, in the order of the shards, batch by batch. Throws what reading,
 * loading and writing throw.
 */
export async function infer(config: Config, options: InferOptions): Promise<InferOutcome> {
  const { target, shards, telemetry } = options;
  const batchSize = options.batchSize ?? (await decideBatchSize(config, options));
  const network = await loadNetwork(config, options.weights, config.INFER, batchSize, telemetry);
  const work = {
    ...describeWork(config, "INFER", { batchSize, shards: fingerprintList(shards), weights: network.checksum }),
    ...describeTarget("--format", target),
    "--infer-topk": String(options.topk),
  };
  const resumable = {
    ...options.resumable,
    stem: target.path,
    work,
    shards: { list: shards, contents: await readContents(shards) },
    computedBy: network.computedBy,
    target,
    tally: null,
    log: telemetry.log,
  };
  const outcome = await writeResumably(resumable, (writer) => predict(network.frozen, config, { ...options, batchSize }, writer));
  network.dispose();
  return outcome;
}

/** Returns the batch size if the user chose none. A resumed run keeps its batch size, because the last digits of the results depend on it. */
async function decideBatchSize({ MODEL, INFER }: Config, { target, resumable, telemetry }: InferOptions): Promise<number> {
  const saved = resumable.resume ? await readPartialWork(target.path) : null;
  const size = Number(saved?.["INFER.batch_size"] ?? chooseBatchSize(MODEL, availableMemory().bytes));
  const unused = size === INFER.batch_size ? "" : `INFER.batch_size = ${INFER.batch_size} in the config is not used; `;
  telemetry.log.info({ batch_size: size }, `${unused}computing ${size} videos at a time: --batch-size sets another number`);
  return size;
}

/** Writes the most probable classes of each video; ends early at the signal. */
async function predict(
  network: FrozenNetwork,
  config: Config,
  { topk, batchSize, filelist, shards, ...watch }: InferOptions & { readonly batchSize: number },
  writer: BatchWriter,
): Promise<{ readonly stopped: boolean }> {
  const { done } = writer;
  const { damage } = watch;
  await damage.begin(done.batches > 0);
  const { on_corrupt: onCorrupt, num_readers: readers } = config.INFER;
  const manner = { onCorrupt, skipBatches: done.batches, events: tellEvents(damage, watch.telemetry) };
  const stream = openReading(config, shards, batchSize, readers, "optional", manner);
  const selector = new TopSelector();
  const describe = (step: number): string => `[INFER] Processed ${step + 1} batches`;
  for await (const batch of watchBatches(stream, { ...watch, title: "infer", done }, describe)) {
    const probabilities = tidy(() => toFloats(network.probabilities(batch)));
    for (const prediction of topPredictions(batch.ids, probabilities, topk, selector)) await writer.write(prediction);
    await writer.endBatch(batch.ids.length, stream.fraction);
  }
  if (writer.done.videos === 0 && stream.complete) throw noVideos(filelist);
  return { stopped: !stream.complete };
}
