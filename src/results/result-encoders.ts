import { encodeBytes, escapeBytes, isUnicode } from "../base/byte-text.js";
import { csvField } from "../formats/csv.js";
import { formatGeneral } from "../formats/general-number.js";
import { Bytes, Tuple } from "../formats/picklable.js";
import { PickledListEncoder } from "../formats/pickle-writer.js";
import type { LabelNames } from "./label-names.js";
import type { Prediction } from "./prediction.js";
import type { ResultFormat } from "./result-formats.js";

/** Turns predictions into a file's bytes, as they come. */
export interface ResultEncoder {
  /** Bytes, or characters, that wait to be taken. */
  readonly length: number;
  add(prediction: Prediction): void;
  /** Adds what closes the file. */
  end(): void;
  /** What came since the last call. */
  take(): string | Uint8Array;
}

/** The first line of Kaggle's form (google/youtube-8m, inference.py). */
export const KAGGLE_HEADER = "VideoId,LabelConfidencePairs";

/** How our files of each format begin. Python's pickles of the same content begin differently: they have a memo. */
export const RESULT_HEADS: Readonly<Record<ResultFormat, string>> = { pickle: "\x80\x02](", csv: KAGGLE_HEADER, jsonl: '{"id":"' };

/** Starts a file of a format, or goes on behind so many predictions that are `written`; `names` are for the one that has them, jsonl. */
export function createEncoder(format: ResultFormat, names: LabelNames | null, written = 0): ResultEncoder {
  if (format === "pickle") return new PickleEncoder(written);
  if (format === "csv") return new TextEncoder(written === 0 ? `${KAGGLE_HEADER}\n` : "", kaggleLine);
  return new TextEncoder("", (prediction) => jsonLine(prediction, names));
}

/**
 * A pickled list with one `(id, [probability, ...], [class, ...])` tuple a video, in PaddleVideo v1.5.1's order, loadable with a
 * bare `pickle.load` on Python 2 and 3. A probability is the float32's exact value. An ID that is not UTF-8 is bytes.
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
    this.#list.add(new Tuple(isUnicode(id) ? id : new Bytes(encodeBytes(id)), scores, classes));
  }

  end(): void {
    this.#list.end();
  }

  take(): Uint8Array {
    return Buffer.concat([...this.#list.take()]);
  }
}

/** A text with a line a video. */
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

/** `id,class probability class probability ...`, numbers as `%i %g` writes them (google/youtube-8m, inference.py: format_lines). */
function kaggleLine({ id, scores, classes }: Prediction): string {
  let pairs = "";
  for (const [rank, c] of classes.entries()) pairs += `${rank === 0 ? "" : " "}${c} ${formatGeneral(scores[rank] as number)}`;
  return `${csvField(escapeBytes(id))},${pairs}\n`;
}

/** `{"id", "predictions": [{"class", "name", "probability"}, ...]}`; without `name` where there are no names, null for a class that has none. */
function jsonLine({ id, scores, classes }: Prediction, names: LabelNames | null): string {
  const predictions = Array.from(classes, (c, rank) => {
    const probability = scores[rank];
    return names === null ? { class: c, probability } : { class: c, name: names.nameOf(c), probability };
  });
  return `${JSON.stringify({ id: escapeBytes(id), predictions })}\n`;
}
