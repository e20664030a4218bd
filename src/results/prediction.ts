/** The most probable classes of one video. */
export interface Prediction {
  readonly id: string;
  /** Probabilities, falling; `[topk] float32`. */
  readonly scores: Float32Array;
  /** Their classes; `[topk] int32`. */
  readonly classes: Int32Array;
}
