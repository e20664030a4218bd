import type { Prediction } from "../results/result-codecs.js";
import type { TopSelector } from "./top-k.js";

/**
 * Yields the `topk` most probable classes of each video of a batch; `probabilities` is `[videos, classes] float32`. Throws NOT_FINITE if a probability is NaN.
 */
export function* topPredictions(
  ids: readonly string[],
  probabilities: Float32Array,
  topk: number,
  selector: TopSelector,
): Generator<Prediction, void> {
  const classes = probabilities.length / ids.length;
  for (const [video, id] of ids.entries()) yield { id, ...selector.selectRow(probabilities, video, classes, topk) };
}
