import type { BatchStream } from "../data/stream.js";
import type { MetricsAccumulator } from "../evaluation/metrics.js";
import type { MistakeList } from "../evaluation/mistakes.js";
import { TopSelector } from "../evaluation/top-k.js";
import { type Computation, computeBatches } from "./compute-batches.js";
import { type PassOptions, watchBatches } from "./reading.js";
import type { BatchWriter } from "./resumable-results.js";

/** What receives the results of a pass. */
export interface MeasureOutputs {
  /** Receives the top predictions of each video. */
  readonly predictions?: Pick<BatchWriter, "write"> | null;
  /** Receives the end of each batch. */
  readonly batches?: Pick<BatchWriter, "endBatch"> | null;
  /** Receives all probabilities, to find the mistakes. */
  readonly mistakes?: MistakeList;
}

/** Returns the probabilities of rated classes, and 0 of others. */
function keepRated(probabilities: Float32Array, rated: readonly Int32Array[]): Float32Array {
  const numClasses = probabilities.length / rated.length;
  const kept = new Float32Array(probabilities.length);
  for (const [segment, classes] of rated.entries()) {
    for (const c of classes) kept[segment * numClasses + c] = probabilities[segment * numClasses + c] as number;
  }
  return kept;
}

/** Computes the probabilities and losses of all batches of a stream and adds them to the accumulator; ends early when the signal is aborted. */
export async function measure(
  computation: Computation,
  stream: BatchStream,
  accumulator: MetricsAccumulator,
  pass: PassOptions,
  outputs: MeasureOutputs = {},
): Promise<{ readonly stopped: boolean }> {
  const selector = new TopSelector();
  const { topk } = accumulator;
  let meanLoss = Number.NaN;
  const describe = (step: number): string => `[EVAL] ${pass.title}: iter ${step} , loss = ${meanLoss.toFixed(6)}`;
  const batches = watchBatches(stream, pass, describe);
  for await (const { ids, labels, rated, probabilities, loss, fraction } of computeBatches(batches, () => stream.fraction, computation)) {
    meanLoss = loss / ids.length;
    accumulator.add(probabilities, labels, loss, rated);
    const { predictions, batches: ends, mistakes } = outputs;
    mistakes?.add(ids, rated === undefined ? probabilities : keepRated(probabilities, rated), labels);
    if (predictions) for (const prediction of selector.predictions(ids, probabilities, topk)) await predictions.write(prediction);
    await ends?.endBatch(ids.length, fraction);
  }
  return { stopped: !stream.complete };
}
