/** Predictions per chunk: 8 bytes each, 0.5 MB. */
const CHUNK = 2 ** 16;
const ENTRY_BYTES = 8;

interface Chunk {
  readonly scores: Float32Array;
  /** `2 * class + hit`. */
  readonly tags: Uint32Array;
}

/** Predictions of many videos in insertion order, 8 bytes each. Grows by chunks, so that nothing is copied and at most one chunk is unused. */
export class PredictionList {
  readonly #chunks: Chunk[] = [];
  #last: Chunk = { scores: new Float32Array(0), tags: new Uint32Array(0) };
  #filled = 0;
  #size = 0;
  #taken = 0;

  get size(): number {
    return this.#size;
  }

  /** Adds a prediction; `hit` is 1 if the class is among the video's labels, else 0. */
  add(score: number, c: number, hit: number): void {
    if (this.#filled === this.#last.scores.length) this.#addChunk();
    this.#last.scores[this.#filled] = score;
    this.#last.tags[this.#filled] = 2 * c + hit;
    this.#filled++;
    this.#size++;
  }

  /** Size in bytes of what `take` would return. */
  get untakenBytes(): number {
    return ENTRY_BYTES * (this.#size - this.#taken);
  }

  /** Returns the predictions added since the last call: for each its score, float32, and `2 * class + hit`, uint32, little-endian. They stay in the list. */
  take(): Uint8Array {
    const bytes = new Uint8Array(this.untakenBytes);
    const view = new DataView(bytes.buffer);
    for (let at = 0; this.#taken < this.#size; at += ENTRY_BYTES, this.#taken++) {
      const { scores, tags } = this.#chunks[Math.floor(this.#taken / CHUNK)] as Chunk;
      view.setFloat32(at, scores[this.#taken % CHUNK] as number, true);
      view.setUint32(at + 4, tags[this.#taken % CHUNK] as number, true);
    }
    return bytes;
  }

  /** Adds predictions encoded by `take`; they count as taken. */
  put(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      const tag = view.getUint32(at + 4, true);
      this.add(view.getFloat32(at, true), tag >>> 1, tag & 1);
    }
    this.#taken = this.#size;
  }

  #addChunk(): void {
    this.#last = { scores: new Float32Array(CHUNK), tags: new Uint32Array(CHUNK) };
    this.#chunks.push(this.#last);
    this.#filled = 0;
  }

  /**
   * Returns `2 * class + hit` of all predictions, `[size] uint32`, by descending score; equal scores by class, then in insertion order.
   * A radix sort, linear in the number of predictions; needs 16 more bytes per prediction while it runs.
   */
  rank(numClasses: number): Uint32Array {
    const entries = this.#entries();
    const spare = new Uint32Array(entries.length);
    sortBy(entries, spare, { word: 1, shift: 1, mask: -1, buckets: numClasses });
    sortBy(spare, entries, { word: 0, shift: 0, mask: 0x7ff, buckets: 2 ** 11 });
    sortBy(entries, spare, { word: 0, shift: 11, mask: 0x7ff, buckets: 2 ** 11 });
    sortBy(spare, entries, { word: 0, shift: 22, mask: 0x3ff, buckets: 2 ** 10 });
    for (let i = 0; i < this.#size; i++) entries[i] = entries[2 * i + 1] as number;
    return entries.subarray(0, this.#size);
  }

  /** Returns the scores of all predictions in ascending order, `[size] float32`: that of `rank`'s prediction r is at `size - 1 - r`. */
  sortedScores(): Float32Array {
    const scores = new Float32Array(this.#size);
    for (const [i, chunk] of this.#chunks.entries()) scores.set(chunk.scores.subarray(0, this.#size - i * CHUNK), i * CHUNK);
    return scores.sort();
  }

  /** `[size, 2] uint32`: key and tag of each prediction, adjacent so that moving both touches one cache line. */
  #entries(): Uint32Array {
    const entries = new Uint32Array(2 * this.#size);
    let filled = 0;
    for (const chunk of this.#chunks) {
      const count = Math.min(CHUNK, this.#size - filled);
      copyEntries(chunk, count, entries.subarray(2 * filled));
      filled += count;
    }
    return entries;
  }
}

function copyEntries({ scores, tags }: Chunk, count: number, entries: Uint32Array): void {
  const bits = new Uint32Array(scores.buffer);
  for (let i = 0; i < count; i++) {
    entries[2 * i] = descendingKey(bits[i] as number);
    entries[2 * i + 1] = tags[i] as number;
  }
}

/** Maps the bits of a float32 to an integer that decreases as the value increases; 0 and -0, which are equal, have the same key. */
function descendingKey(bits: number): number {
  if (bits === 0x80000000) return 0x7fffffff;
  return bits >>> 31 === 0 ? 0x7fffffff - bits : bits;
}

/** A digit of the radix sort: the word of the entry that contains it, its shift and mask in the word, and the number of its values. */
interface Digit {
  readonly word: 0 | 1;
  readonly shift: number;
  readonly mask: number;
  readonly buckets: number;
}

/**
 * One stable pass of a radix sort: moves the entries, by ascending digit. Each loop is a separate function: otherwise V8 recompiles the rest after each loop.
 */
function sortBy(from: Uint32Array, to: Uint32Array, digit: Digit): void {
  placeEntries(from, to, digit, countDigits(from, digit));
}

/** Returns the index of the first entry with each digit. */
function countDigits(from: Uint32Array, { word, shift, mask, buckets }: Digit): Uint32Array {
  const counts = new Uint32Array(buckets);
  for (let i = word; i < from.length; i += 2) {
    const digit = ((from[i] as number) >>> shift) & mask;
    counts[digit] = (counts[digit] as number) + 1;
  }
  let before = 0;
  return counts.map((count) => {
    before += count;
    return before - count;
  });
}

function placeEntries(from: Uint32Array, to: Uint32Array, { word, shift, mask }: Digit, next: Uint32Array): void {
  for (let i = 0; i < from.length; i += 2) {
    const digit = ((from[i + word] as number) >>> shift) & mask;
    const at = next[digit] as number;
    next[digit] = at + 1;
    to[2 * at] = from[i] as number;
    to[2 * at + 1] = from[i + 1] as number;
  }
}
