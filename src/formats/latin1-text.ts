const PIECE_BYTES = 1 << 22;

/** Bytes as the UTF-8 form of the text whose characters they are in Latin-1, made piece by piece. */
export function* encodeLatin1(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const piece = bytes.subarray(at, at + PIECE_BYTES);
    const text = Buffer.from(piece.buffer, piece.byteOffset, piece.length).toString("latin1");
    yield Buffer.from(text, "utf8");
  }
}

/** Bytes of that form: two for each character past ASCII. */
export function latin1TextBytes(bytes: Uint8Array): number {
  let size = bytes.length;
  for (let i = 0; i < bytes.length; i++) size += (bytes[i] as number) >> 7;
  return size;
}
