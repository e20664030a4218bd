import { constants as FLAGS } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "../base/errors.js";
import { readFully } from "../base/input.js";
import { temporaryName } from "../base/leftovers.js";
import { requireFreeSpace } from "../base/output-checks.js";
import { type FullRanking, rankAll } from "../evaluation/full-ranking.js";
import type { ScoreRows } from "../evaluation/score-rows.js";
import { badResults } from "./partial-state.js";

const PIECE_BYTES = 1 << 22;

/** Computes the metrics over the full ranking from a file of `ScoreRows`. `positives`: see `rankAll`. Throws BAD_RESULTS, FILE_UNREADABLE. */
export async function rankStoredScores(path: string, positives: Float64Array): Promise<FullRanking> {
  const handle = await open(path, "r").catch((error: unknown) => {
    throw fileError(error, path, "read");
  });
  try {
    return await rankAll(() => readRows(handle, path, positives.length), positives);
  } finally {
    await handle.close();
  }
}

/** Yields the rows in a file, in pieces of whole rows that share their memory. */
async function* readRows(handle: FileHandle, path: string, numClasses: number): AsyncGenerator<Int32Array> {
  const rowBytes = 4 * numClasses;
  const piece = new Uint8Array(rowBytes * Math.max(1, Math.floor(PIECE_BYTES / rowBytes)));
  for (let position = 0; ; position += piece.length) {
    const length = await readFully(handle, piece, position).catch((error: unknown) => {
      throw fileError(error, path, "read");
    });
    if (length % rowBytes !== 0)
      throw badResults("the scores end within a video", path, { expected: `videos of ${rowBytes} bytes`, found: position + length });
    if (length > 0) yield new Int32Array(piece.buffer, 0, length / 4);
    if (length < piece.length) return;
  }
}

/** Scores take less than this in a small pass, which needs no check of the space. */
const CHECK_BYTES = 1 << 24;

/** Checks once, when a pass has written some scores, that those of the rest will fit on the disk. */
export class ScoreSpaceCheck {
  #isDone = false;

  /**
   * `done`: the videos done and their fraction of the shards' bytes, from which the size of all scores is estimated. Throws FILE_UNWRITABLE if the rest does
   * not fit.
   */
  async endBatch(directory: string, { rowBytes }: ScoreRows, done: { readonly videos: number; readonly fraction: number }): Promise<void> {
    const bytes = done.videos * rowBytes;
    if (this.#isDone || bytes < CHECK_BYTES) return;
    this.#isDone = true;
    const what = "not enough free space for the scores of all videos, which --full-ranking stores during the pass";
    const remedy = "free disk space there, use another --save-dir, or omit --full-ranking";
    await requireFreeSpace(directory, bytes / done.fraction - bytes, { what, remedy });
  }
}

/** A file of scores for one pass. It has no name, so that it is removed however the process ends. */
export class TemporaryScores {
  readonly #directory: string;
  readonly #handle: FileHandle;
  readonly #rows: ScoreRows;
  readonly #space = new ScoreSpaceCheck();
  #videos = 0;

  private constructor(directory: string, handle: FileHandle, rows: ScoreRows) {
    this.#directory = directory;
    this.#handle = handle;
    this.#rows = rows;
  }

  /** Creates a file in a directory, and unlinks it. Throws FILE_UNWRITABLE. */
  static async create(directory: string, rows: ScoreRows): Promise<TemporaryScores> {
    const path = temporaryName(join(directory, "scores.bin"), "unfinished");
    try {
      const handle = await open(path, FLAGS.O_RDWR | FLAGS.O_CREAT | FLAGS.O_EXCL | FLAGS.O_NOFOLLOW);
      await rm(path);
      return new TemporaryScores(directory, handle, rows);
    } catch (error) {
      throw fileError(error, directory, "write");
    }
  }

  /** Writes the videos that were added. `fraction`: of the pass, that is done after them. Throws FILE_UNWRITABLE. */
  async endBatch(videos: number, fraction: number): Promise<void> {
    this.#videos += videos;
    await this.#handle.writeFile(this.#rows.take()).catch((error: unknown) => {
      throw fileError(error, this.#directory, "write");
    });
    await this.#space.endBatch(this.#directory, this.#rows, { videos: this.#videos, fraction });
  }

  /** See `rankStoredScores`. */
  rank(positives: Float64Array): Promise<FullRanking> {
    return rankAll(() => readRows(this.#handle, this.#directory, positives.length), positives);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
