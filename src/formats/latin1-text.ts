const PIECE_BYTES = 1 << 22;

/** Decodes bytes as Latin-1 and yields the text as UTF-8, in pieces. */
export function* encodeLatin1(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const piece = bytes.subarray(at, at + PIECE_BYTES);
    const text = Buffer.from(piece.buffer, piece.byteOffset, piece.length).toString("latin1");
    yield Buffer.from(text, "utf8");
  }
}

/** Returns the size of `encodeLatin1`'s output in bytes: two for each byte from 0x80 on, one for each other byte. */
export function latin1TextBytes(bytes: Uint8Array): number {
  let size = bytes.length;
  for (let i = 0; i < bytes.length; i++) size += (bytes[i] as number) >> 7;
  return size;
}
