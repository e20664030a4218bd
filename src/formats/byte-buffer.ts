const INITIAL_BYTES = 1 << 17;
/** Arrays of at least this many bytes are kept as chunks of their own, because copying them costs more than one more chunk. */
const LARGE_BYTES = 1 << 15;

type Piece = Uint8Array | Iterable<Uint8Array>;

function* flatten(pieces: readonly Piece[]): Generator<Uint8Array> {
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) yield piece;
    else yield* piece;
  }
}

/** A growable byte buffer that is drained in pieces. */
export class ByteBuffer {
  /** The current chunk. Bytes from the last `reserve` may be written here; the array is replaced when the buffer grows. */
  bytes = new Uint8Array(INITIAL_BYTES);
  view = new DataView(this.bytes.buffer);
  #end = 0;
  #finished: Piece[] = [];
  #finishedBytes = 0;

  get length(): number {
    return this.#finishedBytes + this.#end;
  }

  byte(value: number): void {
    this.bytes[this.reserve(1)] = value;
  }

  /** Appends `size` uninitialized bytes and returns their index in `bytes`. */
  reserve(size: number): number {
    const at = this.#end;
    this.#end += size;
    if (this.#end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.#end));
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }

  /** Appends bytes: copies fewer than `LARGE_BYTES`, otherwise keeps a reference. */
  append(bytes: Uint8Array): void {
    if (bytes.length < LARGE_BYTES) {
      const at = this.reserve(bytes.length);
      this.bytes.set(bytes, at);
      return;
    }
    this.#close();
    this.#finish(bytes, bytes.length);
  }

  /** Appends an iterable of pieces, which is consumed only while the result of `take` is read. `size` is their total in bytes. */
  appendLater(pieces: Iterable<Uint8Array>, size: number): void {
    this.#close();
    this.#finish(pieces, size);
  }

  #close(): void {
    this.#finish(this.bytes.slice(0, this.#end), this.#end);
    this.#end = 0;
  }

  #finish(piece: Piece, size: number): void {
    if (size === 0) return;
    this.#finished.push(piece);
    this.#finishedBytes += size;
  }

  /** Returns the bytes appended so far, in pieces, and empties the buffer. */
  take(): Iterable<Uint8Array> {
    this.#close();
    const pieces = this.#finished;
    this.#finished = [];
    this.#finishedBytes = 0;
    return flatten(pieces);
  }
}
