import { NextvladError } from "../base/errors.js";
import { readOnce } from "../base/input.js";
import { showValue } from "../base/shown-value.js";
import { readCsv } from "../formats/csv.js";

/** One row of a label table. */
export interface LabelledVideo {
  readonly id: string;
  /** Class indices, in the order of the file. */
  readonly labels: readonly number[];
  /** Line number in the file, from 1. */
  readonly line: number;
}

const FORM = "begin the file with a line that names the columns, like `id,labels`, and write a line for each video, like `dog0001,3 7`";
/** Limit for a table, which is held in memory. */
const MAX_TABLE_BYTES = 1 << 28;
const MAX_LABEL = 2 ** 31 - 1;

/**
 * Reads a CSV file (RFC 4180, UTF-8) whose first line names its columns: `id` is the ID of a video, `labels` its class indices, separated by spaces, commas,
 * semicolons or `|` (empty for a video without labels). Other columns are ignored.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT (not a label table, or a duplicate ID), BAD_LABELS.
 */
export async function readLabelTable(file: string): Promise<readonly LabelledVideo[]> {
  const rows = readCsv(file, { read: readTable, lineEnds: [], trim: true, remedy: FORM });
  const header = (await rows.next()).value?.fields;
  const names = header?.map((name) => name.toLowerCase()) ?? [];
  const [idColumn, labelColumn] = ["id", "labels"].map((name) => names.indexOf(name)) as [number, number];
  if (idColumn === -1 || labelColumn === -1) {
    const found = header === undefined ? "an empty file" : showValue(header.join(","), 80);
    throw new NextvladError("BAD_FORMAT", "not a label table", { file, expected: "the columns id and labels", found, remedy: FORM });
  }
  const lineOf = new Map<string, number>();
  const videos: LabelledVideo[] = [];
  for await (const { fields, line } of rows) {
    if (fields.length !== names.length) {
      const details = { file, line, expected: names.length, found: fields.length, remedy: FORM };
      throw new NextvladError("BAD_FORMAT", "the row has another number of fields than the header", details);
    }
    const id = fields[idColumn] as string;
    if (id === "") throw new NextvladError("BAD_FORMAT", "the row has no id", { file, line, remedy: FORM });
    const before = lineOf.get(id);
    if (before !== undefined) {
      const remedy = "write one line for each video, with all its labels in it";
      throw new NextvladError("BAD_FORMAT", `lines ${before} and ${line} have the same id`, { file, video: id, remedy });
    }
    lineOf.set(id, line);
    videos.push({ id, labels: parseLabels(fields[labelColumn] as string, { file, line, id }), line });
  }
  return videos;
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
    expected: `whole numbers, 0 to ${MAX_LABEL}`,
    found: showValue(wrong, 40),
    remedy: "number the classes from 0 and write the numbers",
  });
}
