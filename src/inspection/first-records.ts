import { setTimeout } from "node:timers/promises";
import { type ErrorCode, NextvladError } from "../base/errors.js";
import { createRandom } from "../base/random.js";
import { type CorruptPolicy, isPassedOver } from "../data/damage-sieve.js";
import { findShards } from "../data/file-list.js";
import { readPickleShard } from "../data/pickle-shard.js";
import { isPickle } from "../data/shard.js";
import { checkVideo, type VideoShape } from "../data/video-check.js";
import { findVideo } from "../data/video-parser.js";
import { makeSource, type OpenedSource, openForReading } from "../formats/byte-source.js";
import { readTfRecordFile } from "../formats/tfrecord.js";

/** Shards that a run is going to read: their list, and what their videos must look like. */
export interface Split {
  readonly list: string;
  readonly shape: VideoShape;
  /** What the run is going to do about damage; by default "error". */
  readonly onCorrupt?: CorruptPolicy;
}

export interface FirstRecords {
  readonly problems: readonly NextvladError[];
  /** Damage that the run is going to do without. */
  readonly passedOver: readonly NextvladError[];
  /** Shards whose first record was found good, in no order, and what the run does about damage in each. */
  readonly sound: ReadonlyMap<string, CorruptPolicy>;
  readonly shards: number;
  /** Shards whose first record was read: all, but where that takes longer than it may. */
  readonly read: number;
}

/** What a pickle is, taken for a TFRecord file. */
const NO_RECORD: ReadonlySet<ErrorCode> = new Set(["NOT_TFRECORD", "CORRUPT_RECORD"]);
/** Files open at a time: enough to hide a network file system's answers behind one another. */
const OPEN_FILES = 32;
/** A first record of YouTube-8M's has 0.1 to 0.35 MB; reading 2 MB, as for all of a shard, would be reading in vain. */
const READ_BYTES = 256 * 1024;

/**
 * Looks whether the splits' files are there and can be read, and whether the first record of each is one that its split takes. Where this takes longer
 * than `limitMs`, as on a slow network with thousands of shards, those read so far, drawn at random, stand for the others. Throws nothing of a file's.
 */
export async function checkFirstRecords(splits: readonly Split[], cwd: string, limitMs: number): Promise<FirstRecords> {
  const problems: NextvladError[] = [];
  const heads = new Map<string, { path: string; shape: VideoShape; onCorrupt: CorruptPolicy }>();
  for (const { list, shape, onCorrupt = "error" } of splits) {
    try {
      const { shards, problem } = await findShards(list, { cwd });
      for (const path of shards) heads.set(`${shape.labels} ${path}`, { path, shape, onCorrupt });
      if (problem !== null) problems.push(problem);
    } catch (error) {
      problems.push(expected(error));
    }
  }
  const waiting = createRandom(0, "shards", 0).shuffle([...heads.values()]);
  const failures = new Map<string, NextvladError>();
  const damages = new Map<string, NextvladError>();
  const sound = new Map<string, CorruptPolicy>();
  const endMs = performance.now() + limitMs;
  let read = 0;
  const readOn = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined && performance.now() < endMs; next = waiting.pop()) {
      const { path, shape, onCorrupt } = next;
      await checkFirstRecord(path, shape).then(
        () => sound.set(path, onCorrupt),
        (thrown: unknown) => {
          const error = expected(thrown);
          (isPassedOver(error, onCorrupt) ? damages : failures).set(path, error);
        },
      );
      read++;
    }
  };
  // What never answers is left for its turn in the run, which tells of it.
  await Promise.race([Promise.all(Array.from({ length: OPEN_FILES }, readOn)), setTimeout(limitMs, undefined, { ref: false })]);
  const inOrder = (found: ReadonlyMap<string, NextvladError>): NextvladError[] => {
    const errors = Array.from(heads.values(), ({ path }) => found.get(path)).filter((error) => error !== undefined);
    return mergeAlike([...new Set(errors)]);
  };
  return { problems: [...problems, ...inOrder(failures)], passedOver: inOrder(damages), sound: new Map(sound), shards: heads.size, read };
}

function expected(error: unknown): NextvladError {
  if (error instanceof NextvladError) return error;
  throw error;
}

async function checkFirstRecord(path: string, shape: VideoShape): Promise<void> {
  try {
    for await (const record of readTfRecordFile(path, { openSource: openHeadSource })) {
      const { found, place } = findVideo(record, { ...shape, maxFrames: 1 });
      checkVideo(found, shape, place);
      return;
    }
  } catch (error) {
    // Looked at second, as with YouTube-8M's thousands of shards each look counts.
    if (!(error instanceof NextvladError) || !NO_RECORD.has(error.code) || !(await isPickle(path))) throw error;
    for await (const _ of readPickleShard(path, shape)) return;
  }
}

/** As `openFileSource`, but read in small pieces, and beside other files. */
async function openHeadSource(path: string, headBytes: number): Promise<OpenedSource> {
  const handle = await openForReading(path);
  let first: Uint8Array | null = null;
  const readAt = async (target: Uint8Array, position: number): Promise<number> => {
    if (first === null) {
      const piece = new Uint8Array(READ_BYTES);
      first = piece.subarray(0, (await handle.read(piece, 0, piece.length, 0)).bytesRead);
    }
    const ahead = first.subarray(position, position + target.length);
    target.set(ahead);
    if (ahead.length > 0) return ahead.length;
    return (await handle.read(target, 0, Math.min(target.length, READ_BYTES), position)).bytesRead;
  };
  return makeSource(path, { readAt, close: () => handle.close() }, headBytes);
}

/** A whole data set of the wrong kind has the same wrong with each shard: one problem, of the first, that counts the others. */
function mergeAlike(errors: readonly NextvladError[]): NextvladError[] {
  const groups = new Map<string, NextvladError[]>();
  for (const error of errors) {
    const { key, expected: wanted, found } = error.details;
    const kind = JSON.stringify([error.code, error.what, key, wanted, found]);
    groups.set(kind, [...(groups.get(kind) ?? []), error]);
  }
  return Array.from(groups.values(), ([first, ...others]) => {
    const { code, what, details } = first as NextvladError;
    if (others.length === 0) return first as NextvladError;
    return new NextvladError(code, `${what}, as in ${others.length} other ${others.length === 1 ? "shard" : "shards"}`, details);
  });
}
