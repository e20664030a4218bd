import { crc32c } from "@node-rs/crc32";
import { fileError, NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import { formatChecksum } from "../formats/checksum.js";
import type { FileChecksums } from "./snapshot-state.js";

const PIECE_BYTES = 1 << 22;

/** Throws BAD_SNAPSHOT if a file's length or checksum differs from when it was written. */
export async function checkFile(file: string, { bytes, crc32c: expected }: FileChecksums[string]): Promise<void> {
  const found = await measureFile(file);
  const remedy = "take another snapshot (--resume without a path takes the newest that is whole): this file's bytes have changed";
  if (found.bytes !== bytes) {
    const sizes = { expected: `${bytes} bytes`, found: found.bytes };
    throw new NextvladError("BAD_SNAPSHOT", "the file has another length than was written", { file, ...sizes, remedy });
  }
  if (found.crc32c !== expected) {
    throw new NextvladError("BAD_SNAPSHOT", "the file's checksum does not match", { file, expected, found: found.crc32c, remedy });
  }
}

async function measureFile(path: string): Promise<FileChecksums[string]> {
  try {
    const handle = await openInput(path);
    try {
      const piece = new Uint8Array(PIECE_BYTES);
      let [bytes, crc] = [0, 0];
      for (;;) {
        const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, bytes);
        if (bytesRead === 0) return { bytes, crc32c: formatChecksum(crc) };
        crc = crc32c(piece.subarray(0, bytesRead), crc);
        bytes += bytesRead;
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError(error, path, "read");
  }
}
