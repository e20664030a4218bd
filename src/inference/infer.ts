import type { Config } from "../config/schema.js";
import { resolveShards } from "../data/file-list.js";
import type { BatchStream } from "../data/stream.js";
import { type EvaluateOptions, loadNetwork, noVideos, openReading } from "../evaluation/evaluate.js";
import { TopSelector } from "../evaluation/top-k.js";
import { topPredictions } from "../evaluation/top-predictions.js";
import { tellEvents, watchBatches } from "../evaluation/watched-batches.js";
import type { FrozenNetwork } from "../model/frozen-network.js";
import type { Prediction } from "../results/prediction.js";
import { type ResultTarget, writeResults } from "../results/result-writer.js";
import { toFloats } from "../tensorflow/kernels.js";
import { tidy } from "../tensorflow/runtime.js";

export interface InferOptions extends Omit<EvaluateOptions, "saveDir" | "predictions"> {
  /** Classes a video, at most the class count. */
  readonly topk: number;
  /** Where the results go. */
  readonly target: ResultTarget;
}

export interface InferOutcome {
  readonly stopped: boolean;
  readonly videos: number;
  /** None where it stopped early. */
  readonly resultFiles: readonly string[];
}

/** `nextvlad infer`: the most probable classes of every video, in the shards' order, into the result files as they come. Throws what reading, loading and writing throw. */
export async function infer(config: Config, options: InferOptions): Promise<InferOutcome> {
  const shards = await resolveShards(options.filelist, { cwd: process.cwd() });
  const network = await loadNetwork(config, options.weights, config.INFER, options.telemetry);
  const { damage } = options;
  await damage.begin(false);
  const { on_corrupt: onCorrupt, num_readers: readers } = config.INFER;
  const stream = openReading(config, shards, options.batchSize, readers, "optional", {
    onCorrupt,
    events: tellEvents(damage, options.telemetry),
  });
  let videos = 0;
  const { stopped, resultFiles } = await writeResults(options.target, async (writer) => {
    for await (const prediction of predict(network.frozen, stream, options)) {
      await writer.write(prediction);
      videos++;
    }
    if (videos === 0 && damage.hasAny && stream.complete) throw noVideos(options.filelist);
    return { stopped: !stream.complete };
  });
  network.dispose();
  return { stopped, videos, resultFiles };
}

/** The most probable classes of each video of a stream, as they come; ends early when the signal says so. */
async function* predict(network: FrozenNetwork, stream: BatchStream, { topk, ...watch }: InferOptions): AsyncGenerator<Prediction> {
  const selector = new TopSelector();
  const describe = (step: number): string => `[INFER] Processed ${step + 1} batches`;
  for await (const batch of watchBatches(stream, { ...watch, title: "infer" }, describe)) {
    const probabilities = tidy(() => toFloats(network.probabilities(batch)));
    yield* topPredictions(batch.ids, probabilities, topk, selector);
  }
}
