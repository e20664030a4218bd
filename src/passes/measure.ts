import type { BatchStream } from "../data/stream.js";
import type { MetricsAccumulator } from "../evaluation/metrics.js";
import { TopSelector } from "../evaluation/top-k.js";
import { type Computation, computeBatches } from "./compute-batches.js";
import { type PassOptions, watchBatches } from "./reading.js";
import type { BatchWriter } from "./resumable-results.js";

/**
 * Computes the probabilities and losses of all batches of a stream and adds them to the accumulator; ends early when the signal is aborted. The writer, if any,
 * receives the top predictions of each video, and the end of each batch.
 */
export async function measure(
  computation: Computation,
  stream: BatchStream,
  accumulator: MetricsAccumulator,
  pass: PassOptions,
  writer: BatchWriter | null = null,
): Promise<{ readonly stopped: boolean }> {
  const selector = new TopSelector();
  const { topk } = accumulator;
  let meanLoss = Number.NaN;
  const describe = (step: number): string => `[EVAL] ${pass.title}: iter ${step} , loss = ${meanLoss.toFixed(6)}`;
  const batches = watchBatches(stream, pass, describe);
  for await (const { ids, labels, probabilities, loss, fraction } of computeBatches(batches, () => stream.fraction, computation)) {
    meanLoss = loss / ids.length;
    accumulator.add(probabilities, labels, loss);
    if (writer === null) continue;
    if (writer.takesPredictions) for (const prediction of selector.predictions(ids, probabilities, topk)) await writer.write(prediction);
    await writer.endBatch(ids.length, fraction);
  }
  return { stopped: !stream.complete };
}
