/** What is taken away in one go, roughly; and how many bytes of an array become text at a time. */
export const CHUNK_BYTES = 1 << 16;
const TEXT_PIECE_BYTES = 1 << 22;

/** A pickle's bytes that grow at their end until they are taken away. */
export class PickleBuffer {
  private bytes = new Uint8Array(2 * CHUNK_BYTES);
  private view = new DataView(this.bytes.buffer);
  /** Where what was not taken yet begins and ends in `bytes`. */
  private start = 0;
  private end = 0;
  private readonly done: Piece[] = [];
  private sizeBytes = 0;

  /** Bytes that wait to be taken; of `latin1Text`, those that it is made of. */
  get length(): number {
    return this.sizeBytes;
  }

  byte(value: number): void {
    const at = this.reserve(1);
    this.bytes[at] = value;
  }

  uint16(value: number): void {
    const at = this.reserve(2);
    this.view.setUint16(at, value, true);
  }

  int32(value: number): void {
    const at = this.reserve(4);
    this.view.setInt32(at, value, true);
  }

  /** Big-endian, as BINFLOAT has it. */
  float64(value: number): void {
    const at = this.reserve(8);
    this.view.setFloat64(at, value);
  }

  copy(bytes: Uint8Array): void {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** The UTF-8 form of the text whose characters are these bytes (Latin-1). From CHUNK_BYTES on they are not copied, and must not change until they are taken. */
  latin1Text(bytes: Uint8Array): void {
    if (bytes.length < CHUNK_BYTES) {
      for (const piece of encodeLatin1(bytes)) this.copy(piece);
      return;
    }
    this.close();
    this.done.push({ latin1: bytes });
    this.sizeBytes += bytes.length;
  }

  /** All bytes so far, which are then forgotten; the pieces are the taker's to keep. */
  *take(): Generator<Uint8Array> {
    this.close();
    const pieces = this.done.splice(0);
    this.start = 0;
    this.end = 0;
    this.sizeBytes = 0;
    for (const piece of pieces) {
      if (piece instanceof Uint8Array) yield piece;
      else yield* encodeLatin1(piece.latin1);
    }
  }

  /** Puts what was written since the last call among the pieces that are done. */
  private close(): void {
    if (this.end > this.start) this.done.push(this.bytes.slice(this.start, this.end));
    this.start = this.end;
  }

  private reserve(size: number): number {
    const at = this.end;
    this.end += size;
    this.sizeBytes += size;
    if (this.end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.end));
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }
}

type Piece = Uint8Array | { readonly latin1: Uint8Array };

function* encodeLatin1(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += TEXT_PIECE_BYTES) {
    const piece = bytes.subarray(at, at + TEXT_PIECE_BYTES);
    const text = Buffer.from(piece.buffer, piece.byteOffset, piece.length).toString("latin1");
    yield Buffer.from(text, "utf8");
  }
}

/** Bytes of the UTF-8 form of Latin-1 text: two for each character past ASCII. */
export function latin1TextBytes(bytes: Uint8Array): number {
  let size = bytes.length;
  for (let i = 0; i < bytes.length; i++) size += (bytes[i] as number) >> 7;
  return size;
}
