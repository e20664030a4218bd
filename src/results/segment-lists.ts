import { escapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import { AtomicFile } from "../base/files.js";
import { csvField } from "../formats/csv.js";
import { readLines } from "../formats/lines.js";
import { readResults } from "./result-codecs.js";

/** The header of Kaggle's csv of segments (The 3rd YouTube-8M Video Understanding Challenge). */
export const SEGMENTS_HEADER = "Class,Segments";

/** Limits of the lists; tests use smaller ones. */
export interface ListLimits {
  /** Maximum number of segments of a class: Kaggle's. */
  readonly segments: number;
  /** Maximum number of predictions in memory at once, 8 bytes each: 268 MB. */
  readonly entries: number;
}

const LIMITS: ListLimits = { segments: 100_000, entries: 2 ** 25 };

/**
 * Writes Kaggle's csv from a result file whose IDs are those of `clipsOf`: a row for each predicted class, ascending, with its segments `{video}:{start}`,
 * most probable first; equally probable ones in the order of the file. Reads the file once to count the predictions of each class, and then once for each
 * block of classes that fits into memory. Throws what `readResults` throws, and FILE_UNWRITABLE.
 */
export async function writeSegmentLists(results: string, path: string, limits: ListLimits = LIMITS): Promise<void> {
  const names = new SegmentNames();
  const counts: number[] = [];
  for await (const { id, classes } of readResults(results)) {
    names.add(escapeBytes(id));
    for (const c of classes) counts[c] = (counts[c] ?? 0) + 1;
  }
  const file = await AtomicFile.open(path);
  try {
    await file.write(`${SEGMENTS_HEADER}\n`);
    for (let first = 0; first < counts.length; ) {
      const block = new ClassLists(counts, first, limits);
      let segment = 0;
      for await (const { scores, classes } of readResults(results)) {
        for (const [rank, c] of classes.entries()) block.add(c, scores[rank] as number, segment);
        segment++;
      }
      for (let c = first; c < block.end; c++) {
        const segments = block.ranked(c);
        if (segments.length > 0) await file.write(`${c},${csvField(Array.from(segments, (index) => names.nameOf(index)).join(" "))}\n`);
      }
      first = block.end;
    }
    await file.commit();
  } finally {
    await file.discard();
  }
}

/** Throws BAD_VIDEO if an ID of a segment contains a space, which separates the segments of a class in Kaggle's csv. */
export function assertListable(ids: readonly string[]): void {
  const id = ids.find((each) => each.includes(" "));
  if (id === undefined) return;
  const remedy = "write IDs without spaces, or classify whole videos (omit --segments)";
  throw new NextvladError("BAD_VIDEO", "the ID contains a space, which separates the segments in Kaggle's csv", { video: id, remedy });
}

/** The most probable segments of consecutive classes, as many as fit into memory, at least one class. */
class ClassLists {
  /** The first class after these. */
  readonly end: number;
  readonly #first: number;
  readonly #maxSegments: number;
  /** Of each class: the index of its first entry, and after the last class the number of entries. */
  readonly #starts: readonly number[];
  /** Number of entries of each class so far. */
  readonly #sizes: Uint32Array;
  /** Entries that compare by probability, and equal ones by segment, the first one highest: the bits of the float32, then ~segment. */
  readonly #entries: BigUint64Array;
  /** The same memory: for each entry ~segment, then the bits (little-endian, as on all supported processors). */
  readonly #words: Uint32Array;
  readonly #bits = new Uint32Array(1);
  readonly #score = new Float32Array(this.#bits.buffer);

  constructor(counts: readonly (number | undefined)[], first: number, { segments, entries }: ListLimits) {
    // Room for twice as many as are kept, so that sorting them out is rare.
    const roomOf = (c: number): number => Math.min(counts[c] ?? 0, 2 * segments);
    const starts = [0, roomOf(first)];
    let end = first + 1;
    for (; end < counts.length && (starts.at(-1) as number) + roomOf(end) <= entries; end++)
      starts.push((starts.at(-1) as number) + roomOf(end));
    this.end = end;
    this.#first = first;
    this.#maxSegments = segments;
    this.#starts = starts;
    this.#sizes = new Uint32Array(end - first);
    this.#entries = new BigUint64Array(starts.at(-1) as number);
    this.#words = new Uint32Array(this.#entries.buffer);
  }

  add(c: number, score: number, segment: number): void {
    const at = c - this.#first;
    if (at < 0 || c >= this.end) return;
    if (this.#roomOf(at) === this.#sizes[at]) this.#sizes[at] = this.#keepBest(at);
    const entry = (this.#starts[at] as number) + (this.#sizes[at] as number);
    // Not -0, whose bits are the highest.
    this.#score[0] = Math.abs(score);
    this.#words[2 * entry] = ~segment;
    this.#words[2 * entry + 1] = this.#bits[0] as number;
    this.#sizes[at] = (this.#sizes[at] as number) + 1;
  }

  /** Returns the segments of a class, most probable first. */
  ranked(c: number): Uint32Array {
    const at = c - this.#first;
    const size = this.#keepBest(at);
    const start = this.#starts[at] as number;
    return Uint32Array.from({ length: size }, (_, rank) => ~(this.#words[2 * (start + rank)] as number) >>> 0);
  }

  #roomOf(at: number): number {
    return (this.#starts[at + 1] as number) - (this.#starts[at] as number);
  }

  /** Sorts the entries of a class, most probable first, and returns how many to keep. */
  #keepBest(at: number): number {
    const start = this.#starts[at] as number;
    const size = this.#sizes[at] as number;
    this.#entries
      .subarray(start, start + size)
      .sort()
      .reverse();
    return Math.min(size, this.#maxSegments);
  }
}

/** The names `{video}:{start}` of segments: 8 bytes each, and those of the videos, which are stored once for consecutive segments. */
class SegmentNames {
  readonly #videos: string[] = [];
  /** Of each segment: the index of its video, then its start. */
  #segments = new Uint32Array(1024);
  #count = 0;

  add(name: string): void {
    const colon = name.lastIndexOf(":");
    const [video, start] = [name.slice(0, colon), Number(name.slice(colon + 1))];
    if (this.#videos.at(-1) !== video) this.#videos.push(Buffer.from(video).toString());
    if (2 * this.#count === this.#segments.length) {
      const larger = new Uint32Array(2 * this.#segments.length);
      larger.set(this.#segments);
      this.#segments = larger;
    }
    this.#segments[2 * this.#count] = this.#videos.length - 1;
    this.#segments[2 * this.#count + 1] = start;
    this.#count++;
  }

  nameOf(segment: number): string {
    return `${this.#videos[this.#segments[2 * segment] as number]}:${this.#segments[2 * segment + 1]}`;
  }
}

/**
 * Reads class indices, one per line, ascending and unique; a first line that is not a number is a header, as in YouTube-8M's segment_label_ids.csv.
 * Throws FILE_MISSING, FILE_UNREADABLE, and BAD_LABELS if a line is not a class of the model.
 */
export async function readSegmentClasses(path: string, numClasses: number): Promise<Int32Array> {
  const classes = new Set<number>();
  for await (const { text, number } of readLines(path)) {
    const line = text.trim();
    if (line === "" || (number === 1 && !/^[\d+-]/.test(line))) continue;
    if (!/^\d+$/.test(line) || Number(line) >= numClasses) {
      const remedy = "use YouTube-8M's segment_label_ids.csv, or one class index per line";
      const values = { expected: `a class index, 0 to ${numClasses - 1}`, found: JSON.stringify(line.slice(0, 40)), remedy };
      throw new NextvladError("BAD_LABELS", "invalid list of classes", { file: path, line: number, key: "--segment-classes", ...values });
    }
    classes.add(Number(line));
  }
  if (classes.size > 0) return Int32Array.from(classes).sort();
  throw new NextvladError("BAD_LABELS", "the list of classes is empty", {
    file: path,
    key: "--segment-classes",
    remedy: "add class indices",
  });
}
