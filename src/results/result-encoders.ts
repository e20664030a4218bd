import { encodeBytes, escapeBytes, isUnicode } from "../base/byte-text.js";
import { csvField } from "../formats/csv.js";
import { formatGeneral } from "../formats/general-format.js";
import { PickledListEncoder } from "../formats/pickle/pickler.js";
import { Bytes, Tuple } from "../formats/pickle/values.js";
import type { LabelNames } from "./label-names.js";
import type { Prediction } from "./prediction.js";
import type { ResultFormat } from "./result-formats.js";

/** Encodes predictions into the bytes of a file, incrementally. */
export interface ResultEncoder {
  /** Bytes or characters that can be taken. */
  readonly length: number;
  add(prediction: Prediction): void;
  /** Adds the end of the file. */
  end(): void;
  /** Returns what was encoded since the last call. */
  take(): string | Uint8Array;
}

/** The header of Kaggle's format (google/youtube-8m, inference.py). */
export const KAGGLE_HEADER = "VideoId,LabelConfidencePairs";

/** The first bytes of our files of each format. Python's pickles of the same content begin differently, because they use a memo. */
export const RESULT_HEADS: Readonly<Record<ResultFormat, string>> = { pickle: "\x80\x02](", csv: KAGGLE_HEADER, jsonl: '{"id":"' };

/** Creates an encoder for a new file, or for one that already has `written` predictions. `names` is used by jsonl only. */
export function createEncoder(format: ResultFormat, names: LabelNames | null, written = 0): ResultEncoder {
  if (format === "pickle") return new PickleEncoder(written);
  if (format === "csv") return new TextEncoder(written === 0 ? `${KAGGLE_HEADER}\n` : "", kaggleLine);
  return new TextEncoder("", (prediction) => jsonLine(prediction, names));
}

/**
 * Encodes a pickled list with one tuple `(id, [probability, ...], [class, ...])` per video, in PaddleVideo v1.5.1's order. A plain `pickle.load` in Python 2 or
 * 3 reads it. Probabilities are the exact values of the float32. An ID that is not valid UTF-8 is stored as bytes.
 */
class PickleEncoder implements ResultEncoder {
  readonly #list: PickledListEncoder;

  constructor(written: number) {
    this.#list = new PickledListEncoder(written);
  }

  get length(): number {
    return this.#list.length;
  }

  add({ id, scores, classes }: Prediction): void {
    this.#list.add(new Tuple([isUnicode(id) ? id : new Bytes(encodeBytes(id)), scores, classes]));
  }

  end(): void {
    this.#list.end();
  }

  take(): Uint8Array {
    return Buffer.concat([...this.#list.take()]);
  }
}

/** Encodes a text with one line per video. */
class TextEncoder implements ResultEncoder {
  readonly #line: (prediction: Prediction) => string;
  #text: string;

  constructor(header: string, line: (prediction: Prediction) => string) {
    this.#text = header;
    this.#line = line;
  }

  get length(): number {
    return this.#text.length;
  }

  add(prediction: Prediction): void {
    this.#text += this.#line(prediction);
  }

  end(): void {}

  take(): string {
    const text = this.#text;
    this.#text = "";
    return text;
  }
}

/** Returns `id,class probability class probability ...`, with numbers formatted as `%i %g` (google/youtube-8m, inference.py: format_lines). */
function kaggleLine({ id, scores, classes }: Prediction): string {
  let pairs = "";
  for (const [rank, c] of classes.entries()) pairs += `${rank === 0 ? "" : " "}${c} ${formatGeneral(scores[rank] as number)}`;
  return `${csvField(escapeBytes(id))},${pairs}\n`;
}

/**
 * Returns `{"id", "predictions": [{"class", "name", "probability"}, ...]}`; without `name` if `names` is null, and with a null `name` for a class that has
 * none.
 */
function jsonLine({ id, scores, classes }: Prediction, names: LabelNames | null): string {
  const predictions = Array.from(classes, (c, rank) => {
    const probability = scores[rank];
    return names === null ? { class: c, probability } : { class: c, name: names.nameOf(c), probability };
  });
  return `${JSON.stringify({ id: escapeBytes(id), predictions })}\n`;
}
