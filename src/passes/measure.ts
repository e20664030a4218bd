import type { BatchStream } from "../data/stream.js";
import type { MetricsAccumulator } from "../evaluation/metrics.js";
import { TopSelector } from "../evaluation/top-k.js";
import { sigmoid } from "../kernels/tensorflow-ops.js";
import type { FrozenNetwork } from "../model/frozen.js";
import { crossEntropySum, labelMatrix } from "../model/layers.js";
import { tidy } from "../runtime/runtime.js";
import { toFloats } from "../runtime/transfer.js";
import { type PassOptions, watchBatches } from "./reading.js";
import type { BatchWriter } from "./resumable-results.js";

/**
 * Runs all batches of a stream through the network and adds them to the accumulator; ends early when the signal is aborted. The writer, if any, receives the top
 * predictions of each video, and the end of each batch.
 */
export async function measure(
  network: FrozenNetwork,
  stream: BatchStream,
  accumulator: MetricsAccumulator,
  pass: PassOptions,
  writer: BatchWriter | null = null,
): Promise<{ readonly stopped: boolean }> {
  const selector = new TopSelector();
  const { numClasses, topk } = accumulator;
  let meanLoss = Number.NaN;
  const describe = (step: number): string => `[EVAL] ${pass.title}: iter ${step} , loss = ${meanLoss.toFixed(6)}`;
  for await (const batch of watchBatches(stream, pass, describe)) {
    const { probabilities, loss } = tidy(() => {
      const logits = network.logits(batch);
      const sum = crossEntropySum(logits, labelMatrix(batch.labels, numClasses));
      return { probabilities: toFloats(sigmoid(logits)), loss: toFloats(sum)[0] as number };
    });
    meanLoss = loss / batch.ids.length;
    accumulator.add(probabilities, batch.labels, loss);
    if (writer === null) continue;
    if (writer.takesPredictions)
      for (const prediction of selector.predictions(batch.ids, probabilities, topk)) await writer.write(prediction);
    await writer.endBatch(batch.ids.length, stream.fraction);
  }
  return { stopped: !stream.complete };
}
