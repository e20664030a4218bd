import { join } from "node:path";
import type { Config } from "../config/schema.js";
import { resolveShards } from "../data/file-list.js";
import { type BatchStream, closeOnAbort } from "../data/stream.js";
import { type EvaluateOptions, loadNetwork, openReading } from "../evaluation/evaluate.js";
import { TopSelector } from "../evaluation/top-k.js";
import type { FrozenNetwork } from "../model/frozen-network.js";
import { Pace } from "../telemetry/pace.js";
import { toFloats } from "../tensorflow/kernels.js";
import { tidy } from "../tensorflow/runtime.js";
import { INFER_RESULT_NAME, type Prediction, writeInferResult } from "./results.js";

export interface InferOptions extends EvaluateOptions {
  /** Classes a video, at most the class count. */
  readonly topk: number;
}

export interface InferOutcome {
  readonly stopped: boolean;
  readonly videos: number;
  readonly resultFile: string;
}

/** `nextvlad infer`: the most probable classes of every video, in the shards' order, into NEXTVLAD_infer_result.pkl. Throws what reading, loading and writing throw. */
export async function infer(config: Config, options: InferOptions): Promise<InferOutcome> {
  const shards = await resolveShards(options.filelist, { cwd: process.cwd() });
  const network = await loadNetwork(config, options.weights, config.INFER.use_gpu, options.telemetry);
  const stream = openReading(config, shards, options.batchSize, config.INFER.num_readers, "optional");
  const predictions: Prediction[] = [];
  for await (const prediction of predict(network.frozen, stream, options)) predictions.push(prediction);
  network.dispose();
  const stopped = !stream.complete;
  const resultFile = join(options.saveDir, INFER_RESULT_NAME);
  if (!stopped) await writeInferResult(resultFile, predictions);
  return { stopped, videos: predictions.length, resultFile };
}

/** The most probable classes of each video of a stream, as they come; ends early when the signal says so. */
async function* predict(network: FrozenNetwork, stream: BatchStream, options: InferOptions): AsyncGenerator<Prediction> {
  const { telemetry, signal, topk, logIntervalSteps } = options;
  const selector = new TopSelector();
  const pace = new Pace(stream);
  let step = 0;
  const release = closeOnAbort(stream, signal);
  telemetry.progress.begin("infer");
  try {
    for await (const batch of stream) {
      const probabilities = tidy(() => toFloats(network.probabilities(batch)));
      const classes = probabilities.length / batch.ids.length;
      for (const [video, id] of batch.ids.entries()) {
        yield { id, ...selector.selectRow(probabilities, video, classes, topk) };
      }
      pace.count(batch.ids.length);
      telemetry.progress.update(pace.state());
      if (logIntervalSteps > 0 && step % logIntervalSteps === 0)
        telemetry.log.info(pace.facts(), `[INFER] Processed ${step + 1} batches, ${pace.describe()}`);
      step++;
    }
  } finally {
    telemetry.progress.end();
    release();
    await stream.close();
  }
}
