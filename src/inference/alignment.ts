import { escapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { showText } from "../base/shown-value.js";
import type { Prediction } from "../results/result-codecs.js";

/** Predictions of videos in some order, and the name of their file. */
export interface Source {
  readonly name: string;
  readonly predictions: AsyncIterable<Prediction>;
}

/** The predictions of all sources for one video. */
export interface AlignedVideo {
  readonly id: string;
  /** One per source, in the order of the sources. */
  readonly predictions: readonly Prediction[];
}

/** Maximum number of videos that an error names. */
const NAMED_VIDEOS = 3;

/**
 * Joins the predictions of several sources by video, in the order of the first source. Predictions that another source yields too early are buffered: 8 bytes
 * per class and about 100 per video. If all sources have the same order, only the IDs are stored.
 * Throws BAD_RESULTS if a source has a video twice, and, at the end, if a source lacks videos of another one; yields no more videos after the first that is
 * missing.
 */
export async function* alignVideos([first, ...others]: readonly [Source, ...Source[]]): AsyncGenerator<AlignedVideo, void> {
  const seen = new Set<string>();
  const cursors = others.map(({ name, predictions }) => new Cursor(name, predictions, seen));
  try {
    for await (const prediction of first.predictions) {
      const { id } = prediction;
      if (seen.has(id)) throw repeatedVideoError(first.name, id);
      seen.add(id);
      const predictions = [prediction];
      for (const cursor of cursors) {
        const found = await cursor.find(id);
        if (found !== null) predictions.push(found);
      }
      if (cursors.every(({ lacking }) => lacking.count === 0)) yield { id, predictions };
    }
    const problems: string[] = [];
    for (const cursor of cursors) {
      const { lacking, name } = cursor;
      const extra = await cursor.drain();
      if (lacking.count > 0) problems.push(describe(name, lacking, first.name));
      if (extra.count > 0) problems.push(describe(first.name, extra, name));
    }
    if (problems.length > 0) {
      throw new NextvladError("BAD_RESULTS", problems.join("; "), { remedy: "use results for the same videos" });
    }
  } finally {
    for (const cursor of cursors) await cursor.close();
  }
}

/** Counts videos, and stores the first IDs. */
class Tally {
  count = 0;
  readonly ids: string[] = [];

  add(id: string): void {
    this.count++;
    if (this.ids.length < NAMED_VIDEOS) this.ids.push(showText(escapeBytes(id)));
  }
}

/** Finds videos in a source, whose order may differ. */
class Cursor {
  readonly name: string;
  /** Videos that the source lacks. */
  readonly lacking = new Tally();
  readonly #iterator: AsyncIterator<Prediction>;
  /** IDs requested so far. */
  readonly #seen: ReadonlySet<string>;
  readonly #ahead = new PredictionStore();
  #ended = false;

  constructor(name: string, predictions: AsyncIterable<Prediction>, seen: ReadonlySet<string>) {
    this.name = name;
    this.#iterator = predictions[Symbol.asyncIterator]();
    this.#seen = seen;
  }

  /** Returns the video's prediction; null, after adding the video to `lacking`, if the source does not contain it. `seen` must contain `id`. */
  async find(id: string): Promise<Prediction | null> {
    const buffered = this.#ahead.take(id);
    if (buffered !== null) return buffered;
    for (let next = await this.#next(); next !== null; next = await this.#next()) {
      if (next.id === id) return next;
      if (this.#seen.has(next.id) || !this.#ahead.put(next)) throw repeatedVideoError(this.name, next.id);
    }
    this.lacking.add(id);
    return null;
  }

  /** Reads the source to its end and returns the videos that were never requested. */
  async drain(): Promise<Tally> {
    const extra = new Tally();
    for (const id of this.#ahead.ids()) extra.add(id);
    for (let next = await this.#next(); next !== null; next = await this.#next()) {
      if (this.#seen.has(next.id)) throw repeatedVideoError(this.name, next.id);
      extra.add(next.id);
    }
    return extra;
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }

  async #next(): Promise<Prediction | null> {
    if (this.#ended) return null;
    const { done, value } = await this.#iterator.next();
    this.#ended = done === true;
    return done === true ? null : value;
  }
}

function describe(name: string, { count, ids }: Tally, than: string): string {
  return `${name} does not contain ${count === 1 ? "a video" : `${count} videos`} of ${than}: ${listFirst(ids, { total: count })}`;
}

function repeatedVideoError(name: string, id: string): NextvladError {
  return new NextvladError("BAD_RESULTS", "duplicate video", { file: name, video: id, remedy: "remove one of them" });
}

/** Predictions per page, unless a single video has more. */
const PAGE_LENGTH = 1 << 16;

interface Page {
  readonly scores: Float32Array;
  readonly classes: Int32Array;
  /** Index at which the next video is stored. */
  end: number;
  /** Videos that were not removed yet. */
  videos: number;
}

/**
 * Stores predictions of many videos, to be removed by ID: 8 bytes per prediction and 8 per video, besides the IDs. A page is freed when its last video is
 * removed, unless it is being filled.
 */
export class PredictionStore {
  /** By ID: the page's number times PAGE_LENGTH, plus the index in the page. */
  readonly #positions = new Map<string, number>();
  readonly #pages = new Map<number, Page>();
  /** Number of the page that is being filled; -1 before the first. */
  #current = -1;

  /** Returns the stored IDs in insertion order. */
  ids(): IterableIterator<string> {
    return this.#positions.keys();
  }

  /** Stores a video; returns false, and changes nothing, if its ID is already stored. */
  put({ id, scores, classes }: Prediction): boolean {
    if (this.#positions.has(id)) return false;
    const page = this.#pageFor(1 + classes.length);
    this.#positions.set(id, this.#current * PAGE_LENGTH + page.end);
    page.classes[page.end] = classes.length;
    page.classes.set(classes, page.end + 1);
    page.scores.set(scores, page.end + 1);
    page.end += 1 + classes.length;
    page.videos++;
    return true;
  }

  /** Removes and returns a video; null if it is not stored. */
  take(id: string): Prediction | null {
    const position = this.#positions.get(id);
    if (position === undefined) return null;
    this.#positions.delete(id);
    const number = Math.floor(position / PAGE_LENGTH);
    const page = this.#pages.get(number) as Page;
    const start = (position % PAGE_LENGTH) + 1;
    const end = start + (page.classes[start - 1] as number);
    page.videos--;
    if (page.videos === 0 && number !== this.#current) this.#pages.delete(number);
    return { id, scores: page.scores.slice(start, end), classes: page.classes.slice(start, end) };
  }

  #pageFor(length: number): Page {
    const current = this.#pages.get(this.#current);
    if (current !== undefined && current.end + length <= current.classes.length) return current;
    if (current?.videos === 0) this.#pages.delete(this.#current);
    const size = Math.max(PAGE_LENGTH, length);
    const page = { scores: new Float32Array(size), classes: new Int32Array(size), end: 0, videos: 0 };
    this.#pages.set(++this.#current, page);
    return page;
  }
}
