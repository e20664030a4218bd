import { setImmediate } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { type ErrorCode, NextvladError, type SerializedError, serializeError } from "../base/errors.js";
import { MAX_FILE_PROBLEMS, tooManyProblems } from "../data/corrupt-records.js";
import { readPickleShard } from "../data/pickle-shard.js";
import { isPickle } from "../data/shard-reader.js";
import { checkVideo, type Video, type VideoShape } from "../data/video.js";
import { findVideo } from "../data/video-parser.js";
import { STOP } from "../data/worker-thread.js";
import { openBlockingSource } from "../formats/containers/byte-source.js";
import { readTfRecordFile, type TfRecord } from "../formats/containers/tfrecord.js";
import { IdPacker, type PackedIds } from "./id-table.js";

/** Maximum number of problems listed per shard; further ones are only counted. */
const MAX_LISTED_PROBLEMS = 100;

/** Maximum duration of a piece, so that progress is shown and stop requests are handled. */
const MAX_PIECE_MS = 200;
const MAX_PIECE_RECORDS = 4096;

/** Message to a checking thread: the shard to check next. */
export interface VerifyRequest {
  readonly path: string;
}

/** Results for some consecutive records of a shard. */
export interface ShardPiece {
  readonly records: number;
  /** Records that are valid videos, and their frames. */
  readonly videos: number;
  readonly frames: number;
  /** Videos without a label. */
  readonly unlabeled: number;
  /** Videos with segment labels. */
  readonly segmented: number;
  /** The ID of each record. */
  readonly ids: PackedIds;
  /** Problems, at most MAX_LISTED_PROBLEMS over all pieces of a shard. */
  readonly listed: readonly SerializedError[];
  /** Number of problems by code, listed or not. */
  readonly problems: Readonly<Partial<Record<ErrorCode, number>>>;
  /** Bytes of the file read so far. */
  readonly filePosition: number;
  /** "more": more pieces follow; "end": the shard was read to its end; "broken": the rest of the shard is unreadable. */
  readonly state: "more" | "end" | "broken";
}

/**
 * Checks every record of a shard: both checksums, the message, and the video's features and labels. Skips invalid records. The shard is broken at an invalid
 * length or a missing end, where the next record cannot be found, and after MAX_FILE_PROBLEMS problems; a pickle at its first problem. Blocks its thread while
 * it reads. Errors of the shard are yielded, not thrown.
 */
async function* checkShard(path: string, shape: VideoShape): AsyncGenerator<ShardPiece, void> {
  const listed = { left: MAX_LISTED_PROBLEMS };
  let piece = new PieceBuilder(listed);
  let filePosition = 0;
  try {
    let problems = 0;
    const addProblem = (error: NextvladError): void => {
      if (++problems > MAX_FILE_PROBLEMS) throw tooManyProblems(error.details);
      piece.addProblem(error);
    };
    for await (const { outcome, filePosition: position } of checkVideos(path, shape, addProblem)) {
      filePosition = position;
      if (outcome instanceof NextvladError) addProblem(outcome);
      else piece.addVideo(outcome);
      if (!piece.isFull) continue;
      yield piece.finish("more", filePosition);
      piece = new PieceBuilder(listed);
    }
    yield piece.finish("end", filePosition);
  } catch (error) {
    piece.addBreak(error);
    yield piece.finish("broken", filePosition);
  }
}

/** The facts about a valid video that are counted. */
type VideoFacts = Pick<Video, "id" | "labels" | "frames"> & { readonly hasSegments: boolean };

/** The result for a record. */
interface CheckedRecord {
  readonly outcome: VideoFacts | NextvladError;
  readonly filePosition: number;
}

async function* checkVideos(
  path: string,
  shape: VideoShape,
  onBadData: (error: NextvladError) => void,
): AsyncGenerator<CheckedRecord, void> {
  const countOnly = { ...shape, maxFrames: 0 };
  let hasRecords = false;
  try {
    for await (const record of readTfRecordFile(path, {
      openSource: openBlockingSource,
      onBadData,
      maxRecordBytes: shape.maxRecordBytes,
    })) {
      hasRecords = true;
      yield { outcome: checkRecord(record, countOnly), filePosition: record.filePosition };
    }
  } catch (error) {
    if (hasRecords || !(await isPickle(path))) throw error;
    for await (const { video, filePosition } of readPickleShard(path, { ...shape, maxFrames: Number.MAX_SAFE_INTEGER })) {
      yield { outcome: { ...video, hasSegments: false }, filePosition };
    }
  }
}

function checkRecord(record: TfRecord, shape: VideoShape): VideoFacts | NextvladError {
  try {
    const { found, place, hasSegments } = findVideo(record, shape);
    const { id, labels } = checkVideo(found, shape, place);
    return { id, labels, hasSegments, frames: Math.max(...found.features.map((feature) => feature?.frames ?? 0)) };
  } catch (error) {
    if (error instanceof NextvladError) return error;
    throw error;
  }
}

class PieceBuilder {
  readonly #listed: { left: number };
  readonly #startMs = performance.now();
  readonly #ids = new IdPacker();
  readonly #errors: SerializedError[] = [];
  readonly #problems: Partial<Record<ErrorCode, number>> = {};
  #videos = 0;
  #frames = 0;
  #unlabeled = 0;
  #segmented = 0;

  constructor(listed: { left: number }) {
    this.#listed = listed;
  }

  get isFull(): boolean {
    return this.#ids.count >= MAX_PIECE_RECORDS || performance.now() - this.#startMs > MAX_PIECE_MS;
  }

  addVideo({ id, frames, labels, hasSegments }: VideoFacts): void {
    this.#ids.add(id);
    this.#videos++;
    this.#frames += frames;
    if (labels.length === 0) this.#unlabeled++;
    if (hasSegments) this.#segmented++;
  }

  /** Records an invalid record. Its ID counts too, if it could be read. */
  addProblem(error: NextvladError): void {
    this.#ids.add(error.details.video ?? "");
    this.#count(serializeError(error));
  }

  /** Records the error that ends the shard early. */
  addBreak(error: unknown): void {
    this.#count(serializeError(error));
  }

  #count(error: SerializedError): void {
    this.#problems[error.code] = (this.#problems[error.code] ?? 0) + 1;
    if (this.#listed.left === 0) return;
    this.#listed.left--;
    this.#errors.push(error);
  }

  finish(state: ShardPiece["state"], filePosition: number): ShardPiece {
    return {
      records: this.#ids.count,
      videos: this.#videos,
      frames: this.#frames,
      unlabeled: this.#unlabeled,
      segmented: this.#segmented,
      ids: this.#ids.packed(),
      listed: this.#errors,
      problems: this.#problems,
      filePosition,
      state,
    };
  }
}

const shape = workerData as VideoShape;
let isStopped = false;
/** Resolves when all requested shards are checked, one after another, in the order of the requests. */
let checked = Promise.resolve();

parentPort?.on("message", (request: VerifyRequest | typeof STOP) => {
  if (request === STOP) {
    isStopped = true;
    parentPort?.close();
  } else checked = checked.then(() => check(request.path));
});

async function check(path: string): Promise<void> {
  if (isStopped) return;
  for await (const piece of checkShard(path, shape)) {
    // Reading blocks the thread: stop requests are received only here.
    await setImmediate();
    if (isStopped) return;
    parentPort?.postMessage(piece satisfies ShardPiece);
  }
}
