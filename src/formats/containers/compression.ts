import { createGunzip, createInflate } from "node:zlib";
import { NextvladError } from "../../base/errors.js";
import type { ByteSource, RecordPlace } from "./byte-source.js";

/** Compression of a whole file: gzip (RFC 1952, one or more members) or zlib (RFC 1950). */
export type Compression = "gzip" | "zlib";

const INPUT_BYTES = 64 * 1024;
/** Deflate's maximum ratio is 1,032 to 1, so one piece of input can expand to 68 MB: the engine pauses at this many unread bytes. */
const MAX_UNREAD_BYTES = 1 << 22;
const OUTPUT_BYTES = 256 * 1024;

/**
 * Detects gzip or zlib by a file's first bytes; returns undefined for neither. A zlib header is only two weakly constrained bytes: rule out other formats
 * first.
 */
export function detectCompression(head: Uint8Array): Compression | undefined {
  const [first = 0, second = 0, third = 0] = head;
  if (first === 0x1f && second === 0x8b && third === 8) return "gzip";
  const deflated = (first & 0x0f) === 8 && first >> 4 <= 7;
  const presetDictionary = (second & 0x20) !== 0;
  return deflated && !presetDictionary && first * 256 + second > 0 && (first * 256 + second) % 31 === 0 ? "zlib" : undefined;
}

/**
 * Decompresses a source while it is read. Data before a corruption is returned first, except the last 256 KB, which zlib buffers. `read` throws CORRUPT_RECORD
 * if the data are corrupt or truncated, or if nonzero bytes follow them.
 */
export function decompress(packed: ByteSource, compression: Compression): ByteSource {
  const options = { chunkSize: OUTPUT_BYTES };
  const engine = compression === "gzip" ? createGunzip(options) : createInflate(options);
  const input = new Uint8Array(INPUT_BYTES);
  const pieces: Uint8Array[] = [];
  let taken = 0;
  let unreadBytes = 0;
  /** Pending until the engine has consumed the piece; spans several reads while the engine is paused. */
  let feeding: Promise<void> | null = null;
  let problem: unknown;
  let notify: () => void = () => undefined;
  let fedBytes = 0;
  let finished = false;
  let ended = false;
  let failure: Error | undefined;
  engine.on("data", (piece: Uint8Array) => {
    pieces.push(piece);
    unreadBytes += piece.length;
    if (unreadBytes >= MAX_UNREAD_BYTES) {
      engine.pause();
      notify();
    }
  });
  engine.on("error", (error) => {
    failure = error;
  });
  engine.on("end", () => {
    finished = true;
  });

  /** Feeds one more piece to the engine; its output is appended to `pieces`. */
  const feed = async (at: RecordPlace): Promise<void> => {
    const bytes = await packed.read(input, at);
    if (finished) return rejectTrailing(input.subarray(0, bytes), at);
    await new Promise<void>((resolve) => {
      const done = () => {
        engine.off("error", done);
        resolve();
      };
      // The callback of a failed write is never called, so the error event resolves the promise instead.
      engine.once("error", done);
      if (bytes > 0) engine.write(input.subarray(0, bytes), done);
      else engine.once("end", done).end();
    });
    // The engine ends by itself at the end of the compressed data: the rest of this piece is trailing bytes.
    if (finished && bytes > 0) rejectTrailing(input.subarray(Math.max(0, engine.bytesWritten - fedBytes), bytes), at);
    fedBytes += bytes;
    ended = bytes === 0;
  };

  /** Allows trailing zeros, the padding of tapes and block devices; rejects other bytes instead of dropping them silently. */
  const rejectTrailing = (bytes: Uint8Array, at: RecordPlace): void => {
    ended = bytes.length === 0;
    if (bytes.some((byte) => byte !== 0)) throw corrupt(new Error("unexpected bytes after its end"), compression, at);
  };

  const source: ByteSource = {
    get filePosition() {
      return packed.filePosition;
    },
    isExact: false,
    async read(target, at) {
      while (pieces.length === 0) {
        if (problem !== undefined) throw problem;
        if (failure !== undefined) throw corrupt(failure, compression, at);
        if (ended) return 0;
        engine.resume();
        const paused = new Promise<void>((resolve) => {
          notify = resolve;
        });
        feeding ??= feed(at)
          .catch((error: unknown) => {
            problem = error;
          })
          .finally(() => {
            feeding = null;
          });
        await Promise.race([feeding, paused]);
      }
      const piece = pieces[0] as Uint8Array;
      const bytes = Math.min(piece.length - taken, target.length);
      target.set(piece.subarray(taken, taken + bytes));
      taken += bytes;
      unreadBytes -= bytes;
      if (taken === piece.length) {
        pieces.shift();
        taken = 0;
      }
      return bytes;
    },
    async skip(bytes, at) {
      const scratch = new Uint8Array(Math.min(bytes, OUTPUT_BYTES));
      for (let rest = bytes; rest > 0; ) {
        const read = await source.read(scratch.subarray(0, rest), at);
        if (read === 0) return;
        rest -= read;
      }
    },
    async close() {
      engine.destroy();
      await packed.close();
    },
  };
  return source;
}

function corrupt(error: Error, compression: Compression, at: RecordPlace): NextvladError {
  return new NextvladError(
    "CORRUPT_RECORD",
    `the ${compression} data is corrupt or truncated: ${error.message}`,
    { ...at, remedy: "download the shard again", damaged: "rest of shard" },
    error,
  );
}
