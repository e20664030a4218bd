/** The classes of one video with the highest probabilities. */
export interface Prediction {
  /** As returned by `decodeBytes`. */
  readonly id: string;
  /** Probabilities in descending order; `[topk] float32`. */
  readonly scores: Float32Array;
  /** The classes of the scores; `[topk] int32`. */
  readonly classes: Int32Array;
}
