/** The most probable classes of one video. */
export interface Prediction {
  /** As `decodeBytes` gives it. */
  readonly id: string;
  /** Probabilities, falling; `[topk] float32`. */
  readonly scores: Float32Array;
  /** Their classes; `[topk] int32`. */
  readonly classes: Int32Array;
}
