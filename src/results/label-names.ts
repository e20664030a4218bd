import { NextvladError } from "../base/errors.js";
import { showValue } from "../base/shown-value.js";
import { formatChecksum } from "../formats/checksum.js";
import { crc32c } from "../formats/crc32.js";
import { readCsv } from "../formats/csv.js";
import { readLines } from "../formats/lines.js";

/** The names of classes. */
export class LabelNames {
  readonly #names: ReadonlyMap<number, string | null>;

  constructor(names: ReadonlyMap<number, string | null>) {
    this.#names = names;
  }

  /** Returns null for a class without a name. */
  nameOf(c: number): string | null {
    return this.#names.get(c) ?? null;
  }

  /** Returns the CRC-32C of all names with their classes. */
  checksum(): string {
    return formatChecksum(crc32c(JSON.stringify([...this.#names])));
  }

  /** Returns how many of the classes 0 to `numClasses` - 1 have a name. */
  countNamed(numClasses: number): number {
    let count = 0;
    for (let c = 0; c < numClasses; c++) if (this.nameOf(c) !== null) count++;
    return count;
  }
}

/** The columns with the index and the name of a class: the first of each in YouTube-8M's vocabulary.csv, the second in AudioSet's class_labels_indices.csv. */
const INDEX_COLUMNS = ["Index", "index"];
const NAME_COLUMNS = ["Name", "display_name"];

/**
 * Reads class names from a vocabulary (CSV with the columns Index and Name, or index and display_name; some classes may have no name), or from a plain list of
 * all classes (one name per line, class 0 first). `numClasses`: null if unknown.
 * Throws BAD_LABELS (a list of another length, a class out of range or listed twice, an empty line, a .csv without those columns) and what `readLines` throws.
 */
export async function readLabelNames(path: string, numClasses: number | null): Promise<LabelNames> {
  const header = (await readFirstLine(path)).split(",").map((field) => field.trim());
  const [index, name] = [INDEX_COLUMNS, NAME_COLUMNS].map((known) => header.findIndex((field) => known.includes(field)));
  if (index !== undefined && name !== undefined && index >= 0 && name >= 0) return readVocabulary(path, { index, name }, numClasses);
  if (!path.toLowerCase().endsWith(".csv")) return readNameList(path, numClasses);
  throw new NextvladError("BAD_LABELS", "the CSV file is not a vocabulary", {
    file: path,
    line: 1,
    expected: "the columns Index and Name",
    found: showValue(header.join(","), 80),
    remedy: "use YouTube-8M's vocabulary.csv, or a text file with one name per line",
  });
}

async function readFirstLine(path: string): Promise<string> {
  for await (const { text } of readLines(path)) return text;
  throw new NextvladError("BAD_LABELS", "the file is empty", { file: path, remedy: "write one name per line" });
}

async function readVocabulary(
  path: string,
  columns: { readonly index: number; readonly name: number },
  numClasses: number | null,
): Promise<LabelNames> {
  const names = new Map<number, string | null>();
  let isHeader = true;
  for await (const { fields, line } of readCsv(path)) {
    if (isHeader) {
      isHeader = false;
      continue;
    }
    const c = readClass(fields[columns.index] ?? "", numClasses, { file: path, line });
    if (names.has(c)) throw new NextvladError("BAD_LABELS", `class ${c} is listed twice`, { file: path, line });
    names.set(c, fields[columns.name]?.trim() || null);
  }
  return new LabelNames(names);
}

function readClass(text: string, numClasses: number | null, place: { readonly file: string; readonly line: number }): number {
  const limit = numClasses ?? 2 ** 31;
  const c = Number(text);
  if (/^\s*\d+\s*$/.test(text) && c < limit) return c;
  throw new NextvladError("BAD_LABELS", "the class is not one of the model's", {
    ...place,
    expected: `0 to ${limit - 1}`,
    found: showValue(text, 40),
    remedy: "use the vocabulary that the model was trained with",
  });
}

async function readNameList(path: string, numClasses: number | null): Promise<LabelNames> {
  const names = new Map<number, string>();
  for await (const { text, number } of readLines(path)) {
    const name = text.trim();
    if (name === "")
      throw new NextvladError("BAD_LABELS", "the line is empty", { file: path, line: number, remedy: "write a name for every class" });
    names.set(names.size, name);
  }
  if (numClasses !== null && names.size !== numClasses) {
    throw new NextvladError("BAD_LABELS", "the number of names differs from the model's number of classes", {
      file: path,
      expected: numClasses,
      found: names.size,
      remedy: "write one name per line, class 0 first",
    });
  }
  return new LabelNames(names);
}
