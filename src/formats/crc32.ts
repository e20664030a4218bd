import { createRequire } from "node:module";

type Library = typeof import("@node-rs/crc32");

let loaded: Library | null = null;

/**
 * Returns the library of checksums. Loaded on first use, as not all threads compute checksums, and by `require`: to `import` the package, Node parses its source
 * for exports, which takes 15 ms in each thread.
 */
export function loadCrc32(): Library {
  loaded ??= createRequire(import.meta.url)("@node-rs/crc32") as Library;
  return loaded;
}

/** Returns the CRC-32 of bytes, or of `initial` and bytes. */
export const crc32: Library["crc32"] = (input, initial) => loadCrc32().crc32(input, initial);

/** Returns the CRC-32C (Castagnoli) of bytes or UTF-8 text, or of `initial` and these. */
export const crc32c: Library["crc32c"] = (input, initial) => loadCrc32().crc32c(input, initial);
