import { gzipSync } from "node:zlib";
import { isArrayName } from "../../../src/checkpoints/model-arrays.js";
import { openPaddleArchive } from "../../../src/checkpoints/paddle-variables.js";
import type { Target } from "../target.js";
import { readAllArrays } from "./paddle-pickle.js";

const BLOCK_BYTES = 512;

/** Returns a copy with a correct checksum in each block that looks like a ustar header. */
function fixChecksums(bytes: Uint8Array): Uint8Array {
  const fixed = Buffer.from(bytes);
  for (let at = 0; at + BLOCK_BYTES <= fixed.length; at += BLOCK_BYTES) {
    const header = fixed.subarray(at, at + BLOCK_BYTES);
    if (header.toString("latin1", 257, 262) !== "ustar") continue;
    header.fill(" ", 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  }
  return fixed;
}

export const target: Target = {
  forms: (bytes) => {
    const fixed = fixChecksums(bytes);
    return [bytes, fixed, gzipSync(fixed, { level: 1 })];
  },
  readers: [async (file) => readAllArrays(await openPaddleArchive(file, isArrayName))],
};
