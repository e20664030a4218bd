const INITIAL_BYTES = 1 << 17;
/** From this length on, copying bytes costs more than one more chunk. */
const LARGE_BYTES = 1 << 15;

type Piece = Uint8Array | Iterable<Uint8Array>;

function* flatten(pieces: readonly Piece[]): Generator<Uint8Array> {
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) yield piece;
    else yield* piece;
  }
}

/** Bytes that grow at their end until they are taken away. */
export class ByteBuffer {
  /** What was reserved last may be written here; the array changes as the buffer grows. */
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

  /** Makes room for some more bytes and returns where in `bytes` they start. */
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

  /** Adds bytes: a copy of few, many as they are. */
  append(bytes: Uint8Array): void {
    if (bytes.length < LARGE_BYTES) {
      const at = this.reserve(bytes.length);
      this.bytes.set(bytes, at);
      return;
    }
    this.#close();
    this.#finish(bytes, bytes.length);
  }

  /** Adds what an array becomes piece by piece, once it is taken. `size` is in bytes. */
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

  /** The bytes so far, in pieces; they are then forgotten. */
  take(): Iterable<Uint8Array> {
    this.#close();
    const pieces = this.#finished;
    this.#finished = [];
    this.#finishedBytes = 0;
    return flatten(pieces);
  }
}
