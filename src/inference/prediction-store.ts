import type { Prediction } from "../results/result-codecs.js";

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
