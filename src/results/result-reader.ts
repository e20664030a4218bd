import { decodeBytes, isUnicode, normaliseBytes, unescapeBytes } from "../base/byte-text.js";
import { parseDecimal } from "../base/decimal.js";
import { NextvladError } from "../base/errors.js";
import { showValue } from "../base/shown-value.js";
import { openFileSource } from "../formats/containers/byte-source.js";
import { readCsv } from "../formats/csv.js";
import { readLines } from "../formats/lines.js";
import { looksLikePickle, readPickledItems } from "../formats/pickle/unpickler.js";
import { type PickledValue, Tuple } from "../formats/pickle/values.js";
import type { Prediction } from "./prediction.js";
import { KAGGLE_HEADER } from "./result-encoders.js";
import type { ResultFormat } from "./result-formats.js";

/** The location of a video's predictions in a file. */
interface Place {
  readonly file: string;
  readonly line?: number;
  readonly record?: number;
}

const HEAD_BYTES = 64;

/**
 * Reads a result file of any format that `writeResults` writes (also Kaggle's CSV from other tools, and PaddleVideo 1.5.1's pickles), one video at a time, in
 * constant memory. The format is detected from the content.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, UNSAFE_PICKLE.
 */
export async function* readResults(path: string): AsyncGenerator<Prediction, void> {
  const format = await tellFormat(path);
  if (format === "pickle") yield* readPickle(path);
  else if (format === "csv") yield* readKaggleCsv(path);
  else yield* readJsonLines(path);
}

async function tellFormat(path: string): Promise<ResultFormat> {
  const { source, head } = await openFileSource(path, HEAD_BYTES);
  await source.close();
  const text = Buffer.from(head)
    .toString("utf8")
    .replace(/^\uFEFF/, "");
  if (/^"?VideoId"?,/.test(text)) return "csv";
  if (text.startsWith("{")) return "jsonl";
  if (looksLikePickle(head)) return "pickle";
  throw new NextvladError("BAD_FORMAT", "this is no result file", {
    file: path,
    expected: `a pickle, JSON lines, or a CSV file that begins with ${KAGGLE_HEADER}`,
    found: head.length === 0 ? "nothing" : JSON.stringify(text.slice(0, 30)),
    remedy: "name a file that nextvlad infer, or youtube-8m's inference.py, wrote",
  });
}

function* readPickle(path: string): Generator<Prediction, void> {
  let record = 0;
  for (const item of readPickledItems(path)) {
    const place = { file: path, record: record++ };
    const [id, scores, classes] = item instanceof Tuple && item.items.length === 3 ? item.items : [];
    const text = textOf(id);
    if (text === null || !Array.isArray(scores) || !Array.isArray(classes)) {
      throw malformed(place, "a tuple (id, [probability, ...], [class, ...])", "something else");
    }
    yield makePrediction(text, scores, classes, place);
  }
}

/** Returns an ID as text; null for other values. A `str` from Python 2 is bytes. */
function textOf(value: PickledValue | undefined): string | null {
  if (value instanceof Uint8Array) return decodeBytes(value);
  return typeof value === "string" ? normaliseBytes(value) : null;
}

async function* readKaggleCsv(path: string): AsyncGenerator<Prediction, void> {
  let isHeader = true;
  for await (const { fields, line } of readCsv(path)) {
    const place = { file: path, line };
    if (isHeader) {
      if (fields.join(",") !== KAGGLE_HEADER) throw malformed(place, KAGGLE_HEADER, fields.join(","));
      isHeader = false;
      continue;
    }
    const [id, pairs, ...more] = fields;
    if (id === undefined || pairs === undefined || more.length > 0) throw malformed(place, "two fields", fields.length);
    const words = pairs === "" ? [] : pairs.split(" ");
    if (words.length % 2 !== 0) throw malformed(place, "pairs of class and probability", `${words.length} numbers`);
    const scores = words.filter((_, at) => at % 2 === 1).map(parseDecimal);
    const classes = words.filter((_, at) => at % 2 === 0).map(parseDecimal);
    yield makePrediction(unescapeBytes(ownText(id)), scores, classes, place);
  }
}

/** Copies a string: a substring would keep the whole line, with all its numbers, in memory as long as the ID. */
function ownText(text: string): string {
  return Buffer.from(text, "utf8").toString("utf8");
}

async function* readJsonLines(path: string): AsyncGenerator<Prediction, void> {
  for await (const { text, number } of readLines(path)) {
    if (text.trim() === "") continue;
    const place = { file: path, line: number };
    const video = parseJson(text, place) as { readonly id?: unknown; readonly predictions?: unknown } | null;
    const { id, predictions } = video ?? {};
    if (typeof id === "string" && !isUnicode(id)) throw malformed(place, "an id of whole characters", JSON.stringify(id));
    if (typeof id !== "string" || !Array.isArray(predictions)) {
      throw malformed(place, '{"id": ..., "predictions": [{"class": ..., "probability": ...}, ...]}', text.slice(0, 80));
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
    throw new NextvladError("BAD_FORMAT", "this is no JSON", { ...place, found: JSON.stringify(text.slice(0, 80)) }, error);
  }
}

/** Validates a video's predictions and rounds probabilities to float32. Throws BAD_FORMAT. */
function makePrediction(id: string, scores: readonly unknown[], classes: readonly unknown[], where: Place): Prediction {
  const place = { ...where, video: id };
  if (scores.length !== classes.length) throw malformed(place, `${scores.length} classes, as there are probabilities`, classes.length);
  for (let rank = 0; rank < classes.length; rank++) {
    const c = classes[rank];
    if (!Number.isInteger(c) || (c as number) < 0 || (c as number) >= 2 ** 31) throw malformed(place, "a class's number", showValue(c));
    if (!isProbability(scores[rank])) throw malformed(place, `a probability, 0 to 1, for class ${c}`, showValue(scores[rank]));
  }
  if (new Set(classes).size < classes.length) throw malformed(place, "each class once", "one twice");
  return { id, scores: Float32Array.from(scores as readonly number[]), classes: Int32Array.from(classes as readonly number[]) };
}

/** Returns whether a value, rounded to float32, is in 0..1: averages computed in float64 may exceed 1 by a rounding error. */
function isProbability(value: unknown): value is number {
  if (typeof value !== "number") return false;
  const rounded = Math.fround(value);
  return rounded >= 0 && rounded <= 1;
}

function malformed(place: Place, expected: string, found: string | number): NextvladError {
  return new NextvladError("BAD_FORMAT", "the results of a video are not in their form", {
    ...place,
    expected,
    found,
    remedy: "write the file again, or leave it out",
  });
}
