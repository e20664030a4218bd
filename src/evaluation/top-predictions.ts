import type { Prediction } from "../results/prediction.js";
import { selectTop } from "./top-k.js";

/** The `topk` most probable classes of each video of a batch; `probabilities` is `[videos, classes] float32`. Throws NOT_FINITE at a NaN. */
export function* topPredictions(ids: readonly string[], probabilities: Float32Array, topk: number): Generator<Prediction, void> {
  const classes = probabilities.length / ids.length;
  for (const [video, id] of ids.entries()) yield { id, ...selectTop(probabilities, topk, video, classes) };
}
