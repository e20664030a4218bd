import { fileError, NextvladError } from "../base/errors.js";
import { openInput, readOnce } from "../base/input.js";
import { listFirst } from "../base/problem-list.js";
import { showText, showValue } from "../base/shown-value.js";
import type { FeatureBytes } from "../data/video.js";
import { readCsv } from "../formats/csv.js";
import { type NpyArray, readNpy } from "../formats/tensors/npy.js";
import { readNpz } from "../formats/tensors/npz.js";
import { assertFinite, NO_VALUES, quantize, type ValueRange, type ValueStatistics } from "./features.js";

/** User-supplied features of one modality: the path of their files and the range of their values. */
export interface OwnFeature {
  /** A path that contains `{id}`. */
  readonly pattern: string;
  readonly range: ValueRange;
}

/** A source of videos: user-supplied feature files and a label table. */
export interface OwnSource {
  readonly kind: "own";
  readonly table: string;
  readonly videos: readonly LabeledVideo[];
  readonly features: readonly [OwnFeature | null, OwnFeature | null];
}

/** Returns the path of a video's feature file. */
export function featurePath({ pattern }: OwnFeature, id: string): string {
  // A function, because `$` is special in a replacement string, and IDs may contain it.
  return pattern.replaceAll("{id}", () => id);
}

/** The features of one modality of a video from its own file, as bytes. */
export interface FileFeature {
  readonly feature: FeatureBytes;
  /** Statistics of the values that were quantized. */
  readonly statistics: ValueStatistics;
}

/**
 * Reads `[frames, size]` from a .npy file, or from a .npz file: the array of that name, or the only one. The format is detected from the content. uint8 is used
 * as it is; float16, float32 and float64 are quantized.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, BAD_VIDEO (another shape or type, or NaN or Inf).
 */
export async function readFeatureFile(file: string, name: string, range: ValueRange): Promise<FileFeature> {
  const { shape, data } = await readArray(file, name);
  const [frames, frameBytes] = shape;
  if (shape.length !== 2 || frames === undefined || !frameBytes) {
    const remedy = "save an array with one row per frame, even for a single frame";
    throw new NextvladError("BAD_VIDEO", `invalid shape of the ${name} array`, {
      file,
      expected: "[frames, size]",
      found: `[${shape.join(", ")}]`,
      remedy,
    });
  }
  if (data instanceof Uint8Array) return { feature: { frames, frameBytes, data }, statistics: NO_VALUES };
  if (!(data instanceof Float32Array || data instanceof Float64Array)) {
    const remedy = "save it as float32, or as uint8 if the values are already bytes";
    throw new NextvladError("BAD_VIDEO", `unsupported dtype of the ${name} array: integers of more than a byte`, { file, remedy });
  }
  assertFinite(data, frameBytes, name, { file });
  const { bytes, statistics } = quantize(data, range);
  return { feature: { frames, frameBytes, data: bytes }, statistics };
}

async function readArray(file: string, name: string): Promise<NpyArray> {
  if (!(await isZip(file))) return readNpy(file);
  return readNpz(file, (names) => {
    const [only] = names;
    if (names.includes(name)) return name;
    if (names.length === 1 && only !== undefined) return only;
    throw new NextvladError("BAD_VIDEO", `the file has no array named ${name}`, {
      file,
      found:
        names.length === 0
          ? "no array"
          : listFirst(
              names.map((each) => showText(each)),
              { shown: 8 },
            ),
      remedy: `name it in numpy.savez(file, ${name}=...), or save it alone`,
    });
  });
}

async function isZip(file: string): Promise<boolean> {
  try {
    const handle = await openInput(file);
    try {
      const { buffer } = await handle.read(new Uint8Array(2), 0, 2, 0);
      return buffer[0] === 0x50 && buffer[1] === 0x4b;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError(error, file, "read");
  }
}

/** One row of a label table. */
export interface LabeledVideo {
  readonly id: string;
  /** Class indices, in the order of the file. */
  readonly labels: readonly number[];
  /** Line number in the file, from 1. */
  readonly line: number;
}

const TABLE_FORMAT = "start the file with the column names, like `id,labels`, and write one line per video, like `dog0001,3 7`";
/** Limit for a table, which is held in memory. */
const MAX_TABLE_BYTES = 1 << 28;
const MAX_LABEL = 2 ** 31 - 1;

/**
 * Reads a CSV file (RFC 4180, UTF-8) whose first line names its columns: `id` is the ID of a video, `labels` its class indices, separated by spaces, commas,
 * semicolons or `|` (empty for a video without labels). Other columns are ignored.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT (not a label table, or a duplicate ID), BAD_LABELS.
 */
export async function readLabelTable(file: string): Promise<readonly LabeledVideo[]> {
  let columns: Columns | null = null;
  const lineOf = new Map<string, number>();
  const videos: LabeledVideo[] = [];
  for await (const { fields, line } of readCsv(file, { read: readTable, lineEnds: [], trim: true, remedy: TABLE_FORMAT })) {
    if (columns === null) {
      columns = findColumns(fields, file);
      continue;
    }
    if (fields.length !== columns.count) {
      const details = { file, line, expected: columns.count, found: fields.length, remedy: TABLE_FORMAT };
      throw new NextvladError("BAD_FORMAT", "the number of fields differs from the header", details);
    }
    const id = fields[columns.id] as string;
    if (id === "") throw new NextvladError("BAD_FORMAT", "the row has no id", { file, line, remedy: TABLE_FORMAT });
    const before = lineOf.get(id);
    if (before !== undefined) {
      const remedy = "write one line per video, with all its labels";
      throw new NextvladError("BAD_FORMAT", `lines ${before} and ${line} have the same id`, { file, video: id, remedy });
    }
    lineOf.set(id, line);
    videos.push({ id, labels: parseLabels(fields[columns.labels] as string, { file, line, id }), line });
  }
  if (columns === null) throw notATable(file, "an empty file");
  return videos;
}

interface Columns {
  readonly count: number;
  /** Indices of the columns. */
  readonly id: number;
  readonly labels: number;
}

function findColumns(header: readonly string[], file: string): Columns {
  const names = header.map((name) => name.toLowerCase());
  const columns = { count: names.length, id: names.indexOf("id"), labels: names.indexOf("labels") };
  if (columns.id === -1 || columns.labels === -1) throw notATable(file, showValue(header.join(","), 80));
  return columns;
}

function notATable(file: string, found: string): NextvladError {
  const details = { file, expected: "the columns id and labels", found, remedy: TABLE_FORMAT };
  return new NextvladError("BAD_FORMAT", "not a label table", details);
}

/** Yields the bytes of a table, which may come from a pipe. Throws BAD_FORMAT if there are more than `MAX_TABLE_BYTES`. */
async function* readTable(file: string): AsyncGenerator<Uint8Array, void> {
  let size = 0;
  for await (const piece of readOnce(file)) {
    size += piece.length;
    if (size > MAX_TABLE_BYTES) {
      const details = { file, expected: `at most ${MAX_TABLE_BYTES} bytes`, found: "more", remedy: "split it into several tables" };
      throw new NextvladError("BAD_FORMAT", "the label table is too large", details);
    }
    yield piece;
  }
}

function parseLabels(text: string, { file, line, id }: { file: string; line: number; id: string }): number[] {
  const words = text.split(/[\s,;|]+/).filter((word) => word !== "");
  const wrong = words.find((word) => !/^\d+$/.test(word) || Number(word) > MAX_LABEL);
  if (wrong === undefined) return words.map(Number);
  throw new NextvladError("BAD_LABELS", `a label in line ${line} is not a class index`, {
    file,
    video: id,
    expected: `integers from 0 to ${MAX_LABEL}`,
    found: showValue(wrong, 40),
    remedy: "number the classes from 0 and write the numbers",
  });
}
