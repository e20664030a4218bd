import { gzipSync } from "node:zlib";
import { isArrayName } from "../../../src/checkpoints/model-arrays.js";
import { openPaddleArchive } from "../../../src/checkpoints/paddle-archive.js";
import type { Target } from "../target.js";
import { readAllArrays } from "./paddle-pickle.js";

const BLOCK_BYTES = 512;

/** Returns a copy with a correct checksum in each block that looks like a ustar header. */
function mendChecksums(bytes: Uint8Array): Uint8Array {
  const mended = Buffer.from(bytes);
  for (let at = 0; at + BLOCK_BYTES <= mended.length; at += BLOCK_BYTES) {
    const header = mended.subarray(at, at + BLOCK_BYTES);
    if (header.toString("latin1", 257, 262) !== "ustar") continue;
    header.fill(" ", 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  }
  return mended;
}

export const target: Target = {
  forms: (bytes) => {
    const mended = mendChecksums(bytes);
    return [bytes, mended, gzipSync(mended, { level: 1 })];
  },
  readers: [async (file) => readAllArrays(await openPaddleArchive(file, isArrayName))],
};
