import { createGunzip, createInflate } from "node:zlib";
import { NextvladError } from "../base/errors.js";
import type { ByteSource, RecordPlace } from "./byte-source.js";

/** How a whole file is packed: gzip (RFC 1952, one member or several) or zlib (RFC 1950). */
export type Compression = "gzip" | "zlib";

const INPUT_BYTES = 64 * 1024;
/** Deflate packs 1,032 to 1 at best, so one piece of input may become 66 MB: the engine pauses at this many bytes that nobody has read. */
const MAX_UNREAD_BYTES = 1 << 22;
const OUTPUT_BYTES = 256 * 1024;

/** Tells by its first bytes whether a file is gzip or zlib; undefined for neither. A zlib header is two weak bytes: rule out what else the file may be first. */
export function detectCompression(head: Uint8Array): Compression | undefined {
  const [first = 0, second = 0, third = 0] = head;
  if (first === 0x1f && second === 0x8b && third === 8) return "gzip";
  const deflated = (first & 0x0f) === 8 && first >> 4 <= 7;
  const presetDictionary = (second & 0x20) !== 0;
  return deflated && !presetDictionary && first * 256 + second > 0 && (first * 256 + second) % 31 === 0 ? "zlib" : undefined;
}

/**
 * Unpacks a source as it is read. What was unpacked before damage is met is handed out first, but for the last 256 KB, which zlib keeps to itself.
 * Its `read` throws CORRUPT_RECORD at damage or a missing end.
 */
export function decompress(packed: ByteSource, compression: Compression): ByteSource {
  const options = { chunkSize: OUTPUT_BYTES };
  const engine = compression === "gzip" ? createGunzip(options) : createInflate(options);
  const input = new Uint8Array(INPUT_BYTES);
  const pieces: Uint8Array[] = [];
  let taken = 0;
  let unreadBytes = 0;
  /** Under way until the engine has taken the piece; it lasts over several reads while the engine is paused. */
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

  /** Gives the engine one more piece; what comes out lands in `pieces`. */
  const feed = async (at: RecordPlace): Promise<void> => {
    const bytes = await packed.read(input, at);
    if (finished) return refuseTrailing(input.subarray(0, bytes), at);
    await new Promise<void>((resolve) => {
      const done = () => {
        engine.off("error", done);
        resolve();
      };
      // The callback of a write that fails never comes: the error event stands in for it.
      engine.once("error", done);
      if (bytes > 0) engine.write(input.subarray(0, bytes), done);
      else engine.once("end", done).end();
    });
    // The engine ends by itself where the compressed data do: what it left of this piece stands behind them.
    if (finished && bytes > 0) refuseTrailing(input.subarray(Math.max(0, engine.bytesWritten - fedBytes), bytes), at);
    fedBytes += bytes;
    ended = bytes === 0;
  };

  /** Zeros may stand behind the data, as tapes and block devices pad with them; other bytes are not ours to drop unseen. */
  const refuseTrailing = (bytes: Uint8Array, at: RecordPlace): void => {
    ended = bytes.length === 0;
    if (bytes.some((byte) => byte !== 0)) throw damaged(new Error("other bytes follow its end"), compression, at);
  };

  return {
    get filePosition() {
      return packed.filePosition;
    },
    async read(target, at) {
      while (pieces.length === 0) {
        if (problem !== undefined) throw problem;
        if (failure !== undefined) throw damaged(failure, compression, at);
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
    async close() {
      engine.destroy();
      await packed.close();
    },
  };
}

function damaged(error: Error, compression: Compression, at: RecordPlace): NextvladError {
  return new NextvladError(
    "CORRUPT_RECORD",
    `the ${compression} data is damaged or cut short: ${error.message}`,
    { ...at, remedy: "download the shard again", damaged: "rest of shard" },
    error,
  );
}
