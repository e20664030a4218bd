/** The sign bit of a float32, which a probability does not need. */
const SIGN = 0x80000000;
const FLOAT_BYTES = 4;

/**
 * The probabilities of all classes and the labels of videos, encoded for a file: for each video `[classes] float32`, little-endian, with the sign bit set at
 * its labels.
 */
export class ScoreRows {
  readonly numClasses: number;
  #pending: Uint8Array[] = [];
  #length = 0;

  constructor(numClasses: number) {
    this.numClasses = numClasses;
  }

  /** Bytes of a video. */
  get rowBytes(): number {
    return FLOAT_BYTES * this.numClasses;
  }

  /** Bytes of the videos added since the last `take`. */
  get length(): number {
    return this.#length;
  }

  /** Returns the videos added since the last call. */
  take(): Uint8Array {
    const pieces = this.#pending;
    this.#pending = [];
    this.#length = 0;
    return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
  }

  /** Adds videos: `probabilities` is `[videos, classes] float32`, at least 0 and not NaN; `labels` the true classes of each. */
  add(probabilities: Float32Array, labels: readonly Int32Array[]): void {
    const bits = new Uint32Array(probabilities.slice().buffer);
    // -0 equals 0.
    for (let i = 0; i < bits.length; i++) bits[i] = (bits[i] as number) & ~SIGN;
    for (let video = 0; video < labels.length; video++) {
      for (const label of labels[video] as Int32Array)
        bits[video * this.numClasses + label] = (bits[video * this.numClasses + label] as number) | SIGN;
    }
    this.#pending.push(new Uint8Array(bits.buffer));
    this.#length += bits.byteLength;
  }
}
