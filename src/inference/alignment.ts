import { escapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { showText } from "../base/shown-value.js";
import type { Prediction } from "../results/prediction.js";
import { PredictionStore } from "./prediction-store.js";

/** Videos that come in some order, and what they come from. */
export interface Source {
  readonly name: string;
  readonly predictions: AsyncIterable<Prediction>;
}

/** What the sources say of a video. */
export interface AlignedVideo {
  readonly id: string;
  /** One from each source, in their order. */
  readonly predictions: readonly Prediction[];
}

/** How many videos an error names one by one. */
const NAMED_VIDEOS = 3;

/**
 * Brings together what several sources say of each video, in the first one's order. Where the others have another order, what they give too early is
 * held: 8 bytes a class and some 100 a video; where all have the same, nothing but the ids is. Throws BAD_RESULTS for a video that a source has twice, and, at the end, for those
 * that one has and another has not; after the first of these no more are given out.
 */
export async function* alignVideos([first, ...others]: readonly [Source, ...Source[]]): AsyncGenerator<AlignedVideo, void> {
  const seen = new Set<string>();
  const cursors = others.map(({ name, predictions }) => new Cursor(name, predictions, seen));
  try {
    for await (const prediction of first.predictions) {
      const { id } = prediction;
      if (seen.has(id)) throw twice(first.name, id);
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
      throw new NextvladError("BAD_RESULTS", problems.join("; "), { remedy: "make all of them for the same videos" });
    }
  } finally {
    for (const cursor of cursors) await cursor.close();
  }
}

/** Some videos: how many, and the first of them. */
class Tally {
  count = 0;
  readonly ids: string[] = [];

  add(id: string): void {
    this.count++;
    if (this.ids.length < NAMED_VIDEOS) this.ids.push(showText(escapeBytes(id)));
  }
}

/** Looks for videos in a source, whose order may be another one. */
class Cursor {
  readonly name: string;
  /** Videos that were looked for in vain. */
  readonly lacking = new Tally();
  readonly #iterator: AsyncIterator<Prediction>;
  /** The ids that were looked for so far. */
  readonly #seen: ReadonlySet<string>;
  readonly #ahead = new PredictionStore();
  #ended = false;

  constructor(name: string, predictions: AsyncIterable<Prediction>, seen: ReadonlySet<string>) {
    this.name = name;
    this.#iterator = predictions[Symbol.asyncIterator]();
    this.#seen = seen;
  }

  /** The video's predictions; null, and noted as lacking, if the source ends without it. `id` is among those seen. */
  async find(id: string): Promise<Prediction | null> {
    const held = this.#ahead.take(id);
    if (held !== null) return held;
    for (let next = await this.#next(); next !== null; next = await this.#next()) {
      if (next.id === id) return next;
      if (this.#seen.has(next.id) || !this.#ahead.put(next)) throw twice(this.name, next.id);
    }
    this.lacking.add(id);
    return null;
  }

  /** Reads to the end; the videos that nobody looked for. */
  async drain(): Promise<Tally> {
    const extra = new Tally();
    for (const id of this.#ahead.ids()) extra.add(id);
    for (let next = await this.#next(); next !== null; next = await this.#next()) {
      if (this.#seen.has(next.id)) throw twice(this.name, next.id);
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
  return `${name} lacks ${count === 1 ? "a video" : `${count} videos`} that ${than} has: ${listFirst(ids, { total: count })}`;
}

function twice(name: string, id: string): NextvladError {
  return new NextvladError("BAD_RESULTS", "the video occurs twice", { file: name, video: id, remedy: "leave one of them out" });
}
