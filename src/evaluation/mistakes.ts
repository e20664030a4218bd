import { escapeBytes } from "../base/byte-text.js";

/** A video whose most probable class is not one of its labels. Videos without labels are not mistakes. */
export interface Mistake {
  /** As `escapeBytes` returns it. */
  readonly id: string;
  /** The most probable class, the lowest of several. */
  readonly predicted: number;
  readonly probability: number;
  readonly labels: readonly number[];
  /** The probability of each label. */
  readonly label_probabilities: readonly number[];
}

/** The number of mistaken videos with this label and this predicted class. */
export interface ConfusedPair {
  readonly label: number;
  readonly predicted: number;
  readonly videos: number;
}

/** Number of mistakes and of pairs that are kept for the result. */
export const MAX_MISTAKES = 100;
export const MAX_PAIRS = 100;

/**
 * Collects the mistakes of an evaluation. In memory it has the most confident ones, and a count for each pair of classes that was confused: at most one per label
 * of a mistaken video, and at most the square of the number of classes. `take` returns the mistakes as JSON lines, from which `put` restores the same state.
 */
export class MistakeList {
  /** False if the mistakes of earlier videos are unknown, because an older version evaluated them. */
  isComplete = true;
  readonly #numClasses: number;
  /** By descending probability; equal ones in the order of the videos. */
  readonly #mostConfident: Mistake[] = [];
  /** Number of videos by `label * numClasses + predicted`. */
  readonly #pairs = new Map<number, number>();
  #lines = "";
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  /** The start of a line whose rest `put` has not received. */
  #rest = "";

  constructor(numClasses: number) {
    this.#numClasses = numClasses;
  }

  /** Characters that `take` would return. */
  get length(): number {
    return this.#lines.length;
  }

  /** Returns the mistakes since the last call, one line of JSON each. */
  take(): string {
    const lines = this.#lines;
    this.#lines = "";
    return lines;
  }

  /** Restores mistakes from the bytes of `take`, in order, in pieces of any length, before any video is added. */
  put(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      try {
        this.#count(JSON.parse(line) as Mistake);
      } catch {
        // The file has changed, which its checksum reports when it was read completely.
      }
    }
  }

  /**
   * Adds the mistakes of a batch. `probabilities`: `[videos, classes] float32`, without NaN; `labels`: the classes of each video.
   */
  add(ids: readonly string[], probabilities: Float32Array, labels: readonly Int32Array[]): void {
    for (const [video, id] of ids.entries()) {
      const list = labels[video] as Int32Array;
      const row = probabilities.subarray(video * this.#numClasses, (video + 1) * this.#numClasses);
      const predicted = indexOfMaximum(row);
      if (list.length === 0 || list.includes(predicted)) continue;
      const mistake = {
        id: escapeBytes(id),
        predicted,
        probability: row[predicted] as number,
        labels: Array.from(list),
        label_probabilities: Array.from(list, (label) => row[label] as number),
      };
      this.#count(mistake);
      this.#lines += `${JSON.stringify(mistake)}\n`;
    }
  }

  /** Returns the mistakes with the highest probability, at most `MAX_MISTAKES`. */
  mostConfident(): readonly Mistake[] {
    return this.#mostConfident;
  }

  /** Returns the pairs with the most videos, at most `MAX_PAIRS`; those with as many, by label and predicted class. */
  mostConfused(): readonly ConfusedPair[] {
    return [...this.#pairs]
      .sort(([a, videosA], [b, videosB]) => videosB - videosA || a - b)
      .slice(0, MAX_PAIRS)
      .map(([key, videos]) => ({ label: Math.floor(key / this.#numClasses), predicted: key % this.#numClasses, videos }));
  }

  #count(mistake: Mistake): void {
    for (const label of mistake.labels) {
      const key = label * this.#numClasses + mistake.predicted;
      this.#pairs.set(key, (this.#pairs.get(key) ?? 0) + 1);
    }
    const kept = this.#mostConfident;
    if (kept.length === MAX_MISTAKES && (kept.at(-1) as Mistake).probability >= mistake.probability) return;
    const at = kept.findIndex(({ probability }) => probability < mistake.probability);
    kept.splice(at < 0 ? kept.length : at, 0, mistake);
    kept.length = Math.min(kept.length, MAX_MISTAKES);
  }
}

/** Returns the lowest index of the maximum. */
function indexOfMaximum(values: Float32Array): number {
  let best = 0;
  let maximum = values[0] as number;
  for (let i = 1; i < values.length; i++) {
    if ((values[i] as number) > maximum) {
      maximum = values[i] as number;
      best = i;
    }
  }
  return best;
}
