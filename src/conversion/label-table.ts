import { isUtf8 } from "node:buffer";
import { CsvError, parse } from "csv-parse/sync";
import { NextvladError } from "../base/errors.js";
import { readAllOnce } from "../base/input.js";
import { showValue } from "../base/shown-value.js";

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
  const bytes = await readTable(file);
  // Decoding invalid UTF-8 could make different IDs equal.
  if (!isUtf8(bytes)) throw new NextvladError("BAD_FORMAT", "this is not UTF-8 text", { file, remedy: "save the table as UTF-8" });
  const text = bytes.toString("utf8");
  const [header, ...rows] = parseRows(text, file);
  const names = header?.record.map((name) => name.toLowerCase()) ?? [];
  const [idColumn, labelColumn] = ["id", "labels"].map((name) => names.indexOf(name)) as [number, number];
  if (idColumn === -1 || labelColumn === -1) {
    const found = header === undefined ? "an empty file" : showValue(header.record.join(","), 80);
    throw new NextvladError("BAD_FORMAT", "this is no table of labels", {
      file,
      expected: "the columns id and labels",
      found,
      remedy: FORM,
    });
  }
  const lineOf = new Map<string, number>();
  return rows.map(({ record, info: { lines: line } }) => {
    const id = record[idColumn] as string;
    if (id === "") throw new NextvladError("BAD_FORMAT", `line ${line} has no id`, { file, remedy: FORM });
    const before = lineOf.get(id);
    if (before !== undefined) {
      const remedy = "write one line for each video, with all its labels in it";
      throw new NextvladError("BAD_FORMAT", `lines ${before} and ${line} have the same id`, { file, video: id, remedy });
    }
    lineOf.set(id, line);
    return { id, labels: parseLabels(record[labelColumn] as string, { file, line, id }), line };
  });
}

function readTable(file: string): Promise<Buffer> {
  const details = { file, expected: `at most ${MAX_TABLE_BYTES} bytes`, found: "more", remedy: "split it into several tables" };
  return readAllOnce(file, MAX_TABLE_BYTES, () => new NextvladError("BAD_FORMAT", "the table is too long to be held in memory", details));
}

interface Row {
  readonly record: readonly string[];
  readonly info: { readonly lines: number };
}

function parseRows(text: string, file: string): Row[] {
  try {
    return parse(text, { bom: true, info: true, skip_empty_lines: true, trim: true }) as unknown as Row[];
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new NextvladError("BAD_FORMAT", `this is no CSV file: ${error.message.replace(/\.$/, "")}`, { file, remedy: FORM }, error);
  }
}

function parseLabels(text: string, { file, line, id }: { file: string; line: number; id: string }): number[] {
  const words = text.split(/[\s,;|]+/).filter((word) => word !== "");
  const wrong = words.find((word) => !/^\d+$/.test(word) || Number(word) > MAX_LABEL);
  if (wrong === undefined) return words.map(Number);
  throw new NextvladError("BAD_LABELS", `a label in line ${line} is no class index`, {
    file,
    video: id,
    expected: `whole numbers, 0 to ${MAX_LABEL}`,
    found: showValue(wrong, 40),
    remedy: "number the classes from 0 and write the numbers",
  });
}
