import { NextvladError } from "../../base/errors.js";
import { crc32 } from "../crc32.js";

/** A file to store in an archive, with its content in parts. */
export interface ZipMember {
  readonly name: string;
  readonly parts: readonly ArrayBufferView[];
}

// Larger offsets and more members need ZIP64.
const [MAX_BYTES, MAX_MEMBERS] = [2 ** 32 - 1, 2 ** 16 - 1];
const [LOCAL_HEADER, DIRECTORY_HEADER, END_OF_DIRECTORY] = [0x04034b50, 0x02014b50, 0x06054b50];
const [LOCAL_BYTES, DIRECTORY_BYTES, END_BYTES] = [30, 46, 22];
/** Version 2.0 of the specification. */
const VERSION = 20;
const UTF8_NAME = 0x800;
/** 1980-01-01, the earliest date that ZIP supports: the same members always give the same archive. */
const DATE = 0x21;
const PIECE_BYTES = 1 << 24;

/**
 * Encodes a ZIP archive of uncompressed members, in the given order (PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16). The pieces are views of the
 * members' memory, which the next member may reuse. Throws BAD_FORMAT if the archive has 4 GiB or more, or more than 65,535 members.
 */
export async function* encodeZip(members: Iterable<ZipMember> | AsyncIterable<ZipMember>): AsyncGenerator<Uint8Array> {
  const directory: Buffer[] = [];
  let [offset, directoryBytes] = [0, 0];
  for await (const { name, parts } of members) {
    const nameBytes = Buffer.from(name, "utf8");
    const size = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const end = offset + LOCAL_BYTES + nameBytes.length + size;
    directoryBytes += DIRECTORY_BYTES + nameBytes.length;
    if (end + directoryBytes + END_BYTES > MAX_BYTES || directory.length === MAX_MEMBERS) throw tooLarge(end, directory.length + 1);
    const contents = parts.map(({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength));
    const checksum = contents.reduce((crc, bytes) => crc32(bytes, crc), 0);
    const fields = encodeFields(checksum, size, nameBytes.length);
    const local = Buffer.alloc(LOCAL_BYTES);
    local.writeUInt32LE(LOCAL_HEADER);
    fields.copy(local, 4);
    yield Buffer.concat([local, nameBytes]);
    for (const bytes of contents) {
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
    }
    const entry = Buffer.alloc(DIRECTORY_BYTES);
    entry.writeUInt32LE(DIRECTORY_HEADER);
    entry.writeUInt16LE(VERSION, 4);
    fields.copy(entry, 6);
    entry.writeUInt32LE(offset, 42);
    directory.push(Buffer.concat([entry, nameBytes]));
    offset = end;
  }
  const last = Buffer.alloc(END_BYTES);
  last.writeUInt32LE(END_OF_DIRECTORY);
  last.writeUInt16LE(directory.length, 8);
  last.writeUInt16LE(directory.length, 10);
  last.writeUInt32LE(directoryBytes, 12);
  last.writeUInt32LE(offset, 16);
  yield Buffer.concat([...directory, last]);
}

/** Encodes the fields that a member's local header and its directory entry share. */
function encodeFields(checksum: number, size: number, nameLength: number): Buffer {
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(VERSION, 0);
  fields.writeUInt16LE(UTF8_NAME, 2);
  fields.writeUInt16LE(DATE, 8);
  fields.writeUInt32LE(checksum, 10);
  // Compressed and uncompressed size.
  fields.writeUInt32LE(size, 14);
  fields.writeUInt32LE(size, 18);
  fields.writeUInt16LE(nameLength, 22);
  return fields;
}

function tooLarge(bytes: number, members: number): NextvladError {
  return new NextvladError("BAD_FORMAT", "too large for a ZIP archive (.npz)", {
    expected: `less than 4 GiB and at most ${MAX_MEMBERS} members`,
    found: `${bytes} bytes, ${members} members`,
    remedy: "use safetensors, which has no such limit",
  });
}
