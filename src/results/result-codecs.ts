import { decodeBytes, encodeBytes, escapeBytes, isUnicode, normaliseBytes, unescapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import { parseDecimal } from "../base/numbers.js";
import { showValue } from "../base/shown-value.js";
import { openFileSource } from "../formats/containers/byte-source.js";
import { csvField, readCsv } from "../formats/csv.js";
import { formatGeneral } from "../formats/general-format.js";
import { readLines } from "../formats/lines.js";
import { looksLikePickle } from "../formats/pickle/detect.js";
import { PickledListEncoder } from "../formats/pickle/pickler.js";
import { Bytes, type PickledValue, Tuple } from "../formats/pickle/values.js";
import type { LabelNames } from "./label-names.js";
import { FORMAT_CONTENTS, KAGGLE_HEADER, NAMED_HEADER, type ResultFormat } from "./result-formats.js";

/** The classes of one video with the highest probabilities. */
export interface Prediction {
  /** As returned by `decodeBytes`. */
  readonly id: string;
  /** Probabilities in descending order; `[topk] float32`. */
  readonly scores: Float32Array;
  /** The classes of the scores; `[topk] int32`. */
  readonly classes: Int32Array;
}

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

/** How files of a result format are recognized, written and read. */
interface ResultCodec {
  /** Whether a file is of this format, perhaps from another tool, by its first bytes and by these as text. */
  matches(head: Uint8Array, text: string): boolean;
  /** Creates an encoder for a new file, or for one that already has `written` predictions. `names` is used by csv and jsonl. */
  createEncoder(names: LabelNames | null, written: number): ResultEncoder;
  read(path: string): Iterable<Prediction> | AsyncIterable<Prediction>;
}

/** A new format needs an entry here and one in `RESULT_FORMATS`. Files are recognized in this order. */
export const RESULT_CODECS: Readonly<Record<ResultFormat, ResultCodec>> = {
  csv: {
    matches: (_, text) => /^"?VideoId"?,/.test(text),
    createEncoder: (names, written) => {
      const header = names === null ? KAGGLE_HEADER : NAMED_HEADER;
      return new LineEncoder(written === 0 ? `${header}\n` : "", (prediction) => kaggleLine(prediction, names));
    },
    read: readKaggleCsv,
  },
  jsonl: {
    matches: (_, text) => text.startsWith("{"),
    createEncoder: (names) => new LineEncoder("", (prediction) => jsonLine(prediction, names)),
    read: readJsonLines,
  },
  pickle: {
    matches: (head) => looksLikePickle(head),
    createEncoder: (_, written) => new PickleEncoder(written),
    read: readPickle,
  },
};

const HEAD_BYTES = 64;

/**
 * Reads a result file of any format that `writeResults` writes (also Kaggle's CSV from other tools, and PaddleVideo 1.5.1's pickles), one video at a time, in
 * constant memory. The format is detected from the content.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, UNSAFE_PICKLE.
 */
export async function* readResults(path: string): AsyncGenerator<Prediction, void> {
  const { source, head } = await openFileSource(path, HEAD_BYTES);
  await source.close();
  const text = Buffer.from(head)
    .toString("utf8")
    .replace(/^\uFEFF/, "");
  const codec = Object.values(RESULT_CODECS).find(({ matches }) => matches(head, text));
  if (codec === undefined) {
    throw new NextvladError("BAD_FORMAT", "not a result file", {
      file: path,
      expected: FORMAT_CONTENTS,
      found: head.length === 0 ? "an empty file" : JSON.stringify(text.slice(0, 30)),
      remedy: "pass a file written by nextvlad infer, or by youtube-8m's inference.py",
    });
  }
  yield* codec.read(path);
}

// Pickle: a list with one tuple `(id, [probability, ...], [class, ...])` per video, in PaddleVideo v1.5.1's order.

/** A plain `pickle.load` in Python 2 or 3 reads the file. Probabilities are the exact values of the float32. An ID that is not valid UTF-8 is stored as bytes. */
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

async function* readPickle(path: string): AsyncGenerator<Prediction, void> {
  const { readPickledItems } = await import("../formats/pickle/unpickler.js");
  let record = 0;
  for (const item of readPickledItems(path)) {
    const place = { file: path, record: record++ };
    const [id, scores, classes] = item instanceof Tuple && item.items.length === 3 ? item.items : [];
    const text = textOf(id);
    if (text === null || !Array.isArray(scores) || !Array.isArray(classes)) {
      throw invalid(place, "a tuple (id, [probability, ...], [class, ...])", "something else");
    }
    yield makePrediction(text, scores, classes, place);
  }
}

/** Returns an ID as text; null for other values. A `str` from Python 2 is bytes. */
function textOf(value: PickledValue | undefined): string | null {
  if (value instanceof Uint8Array) return decodeBytes(value);
  return typeof value === "string" ? normaliseBytes(value) : null;
}

/** Encodes a text with one line per video. */
class LineEncoder implements ResultEncoder {
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

// Kaggle's CSV: `id,class probability class probability ...`, with numbers formatted as `%i %g` (google/youtube-8m, inference.py: format_lines).

// With class names, a third column has them, separated by semicolons.

function kaggleLine({ id, scores, classes }: Prediction, names: LabelNames | null): string {
  let pairs = "";
  for (const [rank, c] of classes.entries()) pairs += `${rank === 0 ? "" : " "}${c} ${formatGeneral(scores[rank] as number)}`;
  const line = `${csvField(escapeBytes(id))},${pairs}`;
  return names === null ? `${line}\n` : `${line},${csvField(Array.from(classes, (c) => names.nameOf(c) ?? "").join("; "))}\n`;
}

async function* readKaggleCsv(path: string): AsyncGenerator<Prediction, void> {
  let columns = 0;
  for await (const { fields, line } of readCsv(path)) {
    const place = { file: path, line };
    if (columns === 0) {
      if (![KAGGLE_HEADER, NAMED_HEADER].includes(fields.join(","))) throw invalid(place, KAGGLE_HEADER, fields.join(","));
      columns = fields.length;
      continue;
    }
    const [id, pairs] = fields;
    if (id === undefined || pairs === undefined || fields.length !== columns) throw invalid(place, `${columns} fields`, fields.length);
    const words = pairs === "" ? [] : pairs.split(" ");
    if (words.length % 2 !== 0) throw invalid(place, "pairs of class and probability", `${words.length} numbers`);
    const scores = words.filter((_, at) => at % 2 === 1).map(parseDecimal);
    const classes = words.filter((_, at) => at % 2 === 0).map(parseDecimal);
    yield makePrediction(unescapeBytes(copyText(id)), scores, classes, place);
  }
}

/** Copies a string: a substring would keep the whole line, with all its numbers, in memory as long as the ID. */
function copyText(text: string): string {
  return Buffer.from(text, "utf8").toString("utf8");
}

// JSON lines: `{"id", "predictions": [{"class", "name", "probability"}, ...]}`; without `name` if there are no class names.

/** `name` is null for a class without a name. */
function jsonLine({ id, scores, classes }: Prediction, names: LabelNames | null): string {
  const predictions = Array.from(classes, (c, rank) => {
    const probability = scores[rank];
    return names === null ? { class: c, probability } : { class: c, name: names.nameOf(c), probability };
  });
  return `${JSON.stringify({ id: escapeBytes(id), predictions })}\n`;
}

async function* readJsonLines(path: string): AsyncGenerator<Prediction, void> {
  for await (const { text, number } of readLines(path)) {
    if (text.trim() === "") continue;
    const place = { file: path, line: number };
    const video = parseJson(text, place) as { readonly id?: unknown; readonly predictions?: unknown } | null;
    const { id, predictions } = video ?? {};
    if (typeof id === "string" && !isUnicode(id)) throw invalid(place, "an id of valid Unicode characters", JSON.stringify(id));
    if (typeof id !== "string" || !Array.isArray(predictions)) {
      throw invalid(place, '{"id": ..., "predictions": [{"class": ..., "probability": ...}, ...]}', text.slice(0, 80));
    }
    const entries = predictions as readonly ({ readonly class?: unknown; readonly probability?: unknown } | null)[];
    const scores = entries.map((entry) => entry?.probability);
    const classes = entries.map((entry) => entry?.class);
    yield makePrediction(unescapeBytes(id), scores, classes, place);
  }
}

function parseJson(text: string, place: Place): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NextvladError("BAD_FORMAT", "invalid JSON", { ...place, found: JSON.stringify(text.slice(0, 80)) }, error);
  }
}

/** The location of a video's predictions in a file. */
interface Place {
  readonly file: string;
  readonly line?: number;
  readonly record?: number;
}

/** Validates a video's predictions and rounds probabilities to float32. Throws BAD_FORMAT. */
function makePrediction(id: string, scores: readonly unknown[], classes: readonly unknown[], at: Place): Prediction {
  const place = { ...at, video: id };
  if (scores.length !== classes.length) throw invalid(place, `${scores.length} classes, one per probability`, classes.length);
  for (let rank = 0; rank < classes.length; rank++) {
    const c = classes[rank];
    if (!Number.isInteger(c) || (c as number) < 0 || (c as number) >= 2 ** 31) throw invalid(place, "a class index", showValue(c));
    if (!isProbability(scores[rank])) throw invalid(place, `a probability, 0 to 1, for class ${c}`, showValue(scores[rank]));
  }
  if (new Set(classes).size < classes.length) throw invalid(place, "different classes", "a repeated class");
  return { id, scores: Float32Array.from(scores as readonly number[]), classes: Int32Array.from(classes as readonly number[]) };
}

/** Returns whether a value, rounded to float32, is in 0..1: averages computed in float64 may exceed 1 by a rounding error. */
function isProbability(value: unknown): value is number {
  if (typeof value !== "number") return false;
  const rounded = Math.fround(value);
  return rounded >= 0 && rounded <= 1;
}

function invalid(place: Place, expected: string, found: string | number): NextvladError {
  const remedy = "write the file again, or do not use it";
  return new NextvladError("BAD_FORMAT", "invalid predictions of a video", { ...place, expected, found, remedy });
}
