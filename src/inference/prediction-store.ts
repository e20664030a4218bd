import type { Prediction } from "../results/prediction.js";

/** Predictions of a page, if one video does not have more. */
const PAGE_LENGTH = 1 << 16;

interface Page {
  readonly scores: Float32Array;
  readonly classes: Int32Array;
  /** Where the next video goes. */
  end: number;
  /** Videos that were not taken out yet. */
  videos: number;
}

/** Predictions of many videos, to be taken out by id: 8 bytes each and 8 a video, besides the ids. A page goes when its last video does. */
export class PredictionStore {
  /** By id: the page's number times PAGE_LENGTH, plus the place in it. */
  readonly #positions = new Map<string, number>();
  readonly #pages = new Map<number, Page>();
  /** The number of the page that is filled now; -1 before the first. */
  #current = -1;

  /** The ids held, in the order they came. */
  ids(): IterableIterator<string> {
    return this.#positions.keys();
  }

  /** Puts a video in; false, and nothing done, if its id is there already. */
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

  /** Takes a video out; null if it is not there. */
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
