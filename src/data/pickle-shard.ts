import type { FileHandle } from "node:fs/promises";
import { decodeBytes, normaliseBytes } from "../base/byte-text.js";
import { type ErrorDetails, fileError, NextvladError } from "../base/errors.js";
import { openInput, readExactly } from "../base/input.js";
import { DEFAULT_MAX_RECORD_BYTES } from "../base/numbers.js";
import { showValue } from "../base/shown-value.js";
import { PickleLengthCheck } from "../formats/pickle/length-check.js";
import { parsePickle } from "../formats/pickle/unpickler.js";
import { NumpyArray, type PickledDict, type PickledValue, Tuple } from "../formats/pickle/values.js";
import { type Allocate, allocateUnpooled } from "../formats/protobuf/feature-list.js";
import { decodeNumpy, itemBytes, type NumpyDtype } from "../formats/tensors/numpy.js";
import { CorruptRecordFilter, MAX_FILE_PROBLEMS } from "./corrupt-records.js";
import type { ShardReadOptions } from "./shard.js";
import { checkVideo, type FeatureBytes, type FeaturePair, makeVideo, type ShardVideo, type VideoPlace, type VideoShape } from "./video.js";

/** A feature's array; its data stay in the file if the file contains them verbatim. */
interface PickledFeature {
  /** The feature's key in the dict, for errors. */
  readonly key: string;
  readonly rows: number;
  /** Number of columns; each becomes one byte when it is read. */
  readonly frameBytes: number;
  readonly dtype: NumpyDtype;
  readonly fortranOrder: boolean;
  /** `[rows, frameBytes]` of the dtype in the array's own order, or the byte offset of that data in the file. */
  readonly content: Uint8Array | number;
}

/** A video's dict. */
interface PickledVideo {
  readonly place: VideoPlace;
  readonly id: string;
  /** Undefined if the dict has no labels. */
  readonly labels: readonly number[] | undefined;
  /** Number of rows that belong to the video; further rows are ignored. */
  readonly frames: number;
  readonly features: readonly [PickledFeature | undefined, PickledFeature | undefined];
  /** The dict's keys, for the error, if it has neither feature; otherwise null. */
  readonly otherKeys: string | null;
}

const READ_BYTES = 1 << 24;
/** Maximum size of a pickled shard, which is read into memory as a whole. */
const MAX_SHARD_BYTES = 2 ** 30;
const FEATURE_KEYS = ["feature", "audio"] as const;
const TF2PKL =
  "use the form that PaddleVideo's tf2pkl.py writes: a list with one dict per video, or one dict, with the keys video, feature, audio, label and nframes";

/**
 * Reads a PaddleVideo shard: a pickled list of one dict per video (tf2pkl.py of v1.5.1), or a single dict (PaddleVideo 2.x). `video` is the ID; `feature` and
 * `audio` are arrays `[rows, size]` in C or Fortran order, of uint8 or of numbers that are integers in 0..255; `label` is class indices as a list or an array
 * (optional); rows past `nframes` are cut.
 * The whole file is in memory only while it is parsed; after that, only arrays that the file does not contain verbatim are kept.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, UNSAFE_PICKLE, BAD_VIDEO, BAD_LABELS, except errors that the filter skips.
 */
export async function* readPickleShard(
  path: string,
  shape: VideoShape,
  { filter = new CorruptRecordFilter("error"), allocate = allocateUnpooled, rollback, skip }: ShardReadOptions = {},
): AsyncGenerator<ShardVideo, void> {
  if (shape.segments === "rated") {
    const remedy = "use TFRecord shards of YouTube-8M 2019 (3/frame/validate), or set MODEL.segments to False";
    throw new NextvladError("BAD_LABELS", "a pickle has no rated segments", { file: path, remedy });
  }
  const handle = await openInput(path);
  try {
    const { videos, fileBytes } = await inTurn(() => parseShard(handle, path, shape.maxRecordBytes));
    const count = videos.length;
    // Taken from the end, because shift() moves all remaining items.
    videos.reverse();
    for (let done = 1; done <= count; done++) {
      const taken = videos.pop() as PickledVideo | NextvladError;
      const filePosition = Math.round((fileBytes * done) / count);
      if (skip?.isSkipped(done - 1)) {
        skip.onSkipped(filePosition, false);
        continue;
      }
      const video = await filter.tryParse(async () => {
        if (taken instanceof NextvladError) throw taken;
        const found = { id: taken.id, features: await readFeatures(taken, handle, path, shape, allocate), labels: taken.labels };
        return makeVideo(checkVideo(found, shape, taken.place));
      });
      if (video === null) rollback?.();
      else yield { video, filePosition };
    }
  } finally {
    await handle.close();
  }
}

let lastTurn: Promise<unknown> = Promise.resolve();

/** Runs `work` after all earlier calls: shards are read concurrently, but only one whole file at a time is held in memory. */
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const turn = lastTurn.then(work, work);
  lastTurn = turn;
  return turn;
}

/** The videos of a pickle, without the bytes that are still in the file. */
interface ParsedShard {
  /** Each video, or the error of its record. */
  readonly videos: (PickledVideo | NextvladError)[];
  readonly fileBytes: number;
}

async function parseShard(handle: FileHandle, file: string, maxRecordBytes = DEFAULT_MAX_RECORD_BYTES): Promise<ParsedShard> {
  const bytes = await readWhole(handle, file, maxRecordBytes);
  const list = videosOf(parseWhole(bytes, file, maxRecordBytes));
  if (list === null) throw new NextvladError("BAD_FORMAT", "the pickle is neither a list of videos nor a video", { file, remedy: TF2PKL });
  let labels = 0;
  const videos: (PickledVideo | NextvladError)[] = [];
  let problems = 0;
  for (const [record, item] of list.entries()) {
    const video = tryParseVideo(item, bytes, { file, record });
    videos.push(video);
    // One problem past the limit is enough: there, the reader skips the rest of the shard.
    if (video instanceof NextvladError && ++problems > MAX_FILE_PROBLEMS) break;
    if (!(video instanceof NextvladError)) labels += video.labels?.length ?? 0;
    // A pickle can refer to the same list many times, so iterating over all labels of a small file could take forever.
    if (labels > bytes.length) {
      throw badVideo(
        "the videos up to this one have more labels than the file has bytes",
        { file, record, damaged: "rest of shard" },
        TF2PKL,
      );
    }
  }
  return { videos, fileBytes: bytes.length };
}

/** Returns the dicts of a pickle; null for anything else. */
function videosOf(value: PickledValue): readonly PickledValue[] | null {
  if (value instanceof Map) return [value];
  return value instanceof Tuple ? value.items : Array.isArray(value) ? value : null;
}

/** Parses the file. Marks a BAD_FORMAT error as damage to the rest of the shard: in an invalid pickle, the start of the next video cannot be found. */
function parseWhole(bytes: Uint8Array, file: string, maxRecordBytes: number): PickledValue {
  try {
    return parsePickle(bytes, file, maxRecordBytes);
  } catch (error) {
    if (!(error instanceof NextvladError) || error.code !== "BAD_FORMAT") throw error;
    throw new NextvladError(error.code, error.what, { ...error.details, damaged: "rest of shard" }, error);
  }
}

function tryParseVideo(item: PickledValue, file: Uint8Array, at: VideoPlace): PickledVideo | NextvladError {
  try {
    return parsePickledVideo(item, file, at);
  } catch (error) {
    if (error instanceof NextvladError) return error;
    throw error;
  }
}

/** Reads the whole file. Throws FILE_UNREADABLE, and BAD_FORMAT if the file or a string in it is too long. */
async function readWhole(handle: FileHandle, file: string, maxRecordBytes: number): Promise<Uint8Array> {
  const guard = new PickleLengthCheck(file, maxRecordBytes);
  try {
    const { size } = await handle.stat();
    if (size > MAX_SHARD_BYTES) throw tooLarge(file, size);
    const bytes = new Uint8Array(size);
    let end = 0;
    while (end < size) {
      const { bytesRead } = await handle.read(bytes, end, Math.min(READ_BYTES, size - end), end);
      if (bytesRead === 0) break;
      guard.check(bytes.subarray(end, end + bytesRead));
      end += bytesRead;
    }
    return bytes.subarray(0, end);
  } catch (error) {
    throw fileError(error, file, "read");
  }
}

function tooLarge(file: string, size: number): NextvladError {
  return new NextvladError("BAD_FORMAT", "the pickled shard is too large to be read into memory", {
    file,
    expected: `at most ${MAX_SHARD_BYTES} bytes`,
    found: `${size} bytes`,
    remedy: "write several smaller shards, as tf2pkl.py does",
    damaged: "rest of shard",
  });
}

function parsePickledVideo(item: PickledValue, file: Uint8Array, at: VideoPlace): PickledVideo {
  if (!(item instanceof Map)) throw badVideo("the item is not a dict", { ...at, damaged: "record" }, TF2PKL);
  const id = idOf(item.get("video"));
  if (id === undefined)
    throw badVideo(
      "the video has no ID: the value of its key video is neither bytes nor text",
      item.size === 0 ? { ...at, damaged: "record" } : at,
      `${TF2PKL}; it has ${keysOf(item)}`,
    );
  const place = { ...at, video: id };
  const features = FEATURE_KEYS.map((key) => parseFeature(item.get(key), key, file, place)) as [PickledFeature?, PickledFeature?];
  const [rgb, audio] = features;
  return {
    place,
    id,
    labels: parseLabels(item.get("label"), place),
    frames: parseFrameCount(item.get("nframes"), place),
    features: [rgb, audio],
    otherKeys: rgb === undefined && audio === undefined ? keysOf(item) : null,
  };
}

function idOf(value: PickledValue | undefined): string | undefined {
  if (typeof value === "string") return normaliseBytes(value);
  return value instanceof Uint8Array ? decodeBytes(value) : undefined;
}

function parseLabels(value: PickledValue | undefined, place: VideoPlace): readonly number[] | undefined {
  if (value === undefined || value === null) return undefined;
  const isVector = value instanceof NumpyArray && value.shape.length === 1;
  const items = isVector ? Array.from(decodeNumpy(value.bytes, value.dtype), Number) : value instanceof Tuple ? value.items : value;
  const isBoolean = isVector && value.dtype === "b1";
  if (Array.isArray(items) && !isBoolean && items.every((label): label is number => Number.isInteger(label))) return items;
  throw new NextvladError("BAD_LABELS", "the video's label is not a list of integers", {
    ...place,
    expected: "class indices: a list of ints, or an array [labels] of integers",
    ...(value instanceof NumpyArray ? { found: `an array ${value.dtype} [${value.shape.join(", ")}]` } : {}),
    remedy: `write class indices from 0${isBoolean ? ", as numpy.flatnonzero(label) gives them" : "; an empty list for a video without labels"}`,
  });
}

function parseFrameCount(value: PickledValue | undefined, place: VideoPlace): number {
  if (value === undefined) return Number.MAX_SAFE_INTEGER;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0) return value;
  throw badVideo("the video's nframes is not a number of frames", { ...place, damaged: "record" }, TF2PKL);
}

async function readFeatures(
  video: PickledVideo,
  handle: FileHandle,
  file: string,
  shape: VideoShape,
  allocate: Allocate,
): Promise<FeaturePair<FeatureBytes>> {
  const rowsOf = (feature: PickledFeature): Promise<FeatureBytes> =>
    readRows(
      feature,
      { frames: Math.min(video.frames, feature.rows), maxFrames: shape.maxFrames, place: video.place },
      { handle, file },
      allocate,
    );
  if (video.otherKeys !== null) {
    throw badVideo("the video has neither feature nor audio", video.place, `${TF2PKL}; it has ${video.otherKeys}`);
  }
  const read = async (i: 0 | 1): Promise<FeatureBytes | undefined> => {
    const feature = video.features[i];
    if (shape.featureSizes[i] === 0) return undefined;
    if (feature !== undefined) return rowsOf(feature);
    if (shape.featureSizes[i] === null) return undefined;
    throw badVideo(
      `the video has no ${FEATURE_KEYS[i]}`,
      video.place,
      "use shards that have it, or set the feature's size to 0 to ignore it",
    );
  };
  return [await read(0), await read(1)];
}

function badVideo(what: string, place: ErrorDetails, remedy: string): NextvladError {
  return new NextvladError("BAD_VIDEO", what, { ...place, remedy });
}

function keysOf(dict: PickledDict): string {
  return dict.size === 0
    ? "no key"
    : [...dict.keys()]
        .slice(0, 8)
        .map((key) => showValue(key, 40))
        .join(", ");
}

/**
 * Returns a video's feature from the value in its dict; undefined if it is missing or None. `file` is the bytes of the whole pickle. Throws BAD_VIDEO if the
 * value is not a two-dimensional array of numbers.
 */
function parseFeature(value: PickledValue | undefined, key: string, file: Uint8Array, place: VideoPlace): PickledFeature | undefined {
  if (value === undefined || value === null) return undefined;
  const [rows, frameBytes] = value instanceof NumpyArray ? value.shape : [];
  if (
    !(value instanceof NumpyArray) ||
    value.dtype === "b1" ||
    value.shape.length !== 2 ||
    rows === undefined ||
    frameBytes === undefined
  ) {
    const found = value instanceof NumpyArray ? `${value.dtype} [${value.shape.join(", ")}]` : "no array";
    throw new NextvladError("BAD_VIDEO", `the video's ${key} is not an array of frames`, {
      ...place,
      expected: "uint8 [frames, size]",
      found,
      remedy: "quantize the features to bytes as YouTube-8M does, one row per frame",
    });
  }
  const { bytes, dtype, fortranOrder } = value;
  const content = bytes.buffer === file.buffer ? bytes.byteOffset - file.byteOffset : bytes;
  // A single row or column has the same layout in both orders.
  return { key, rows, frameBytes, dtype, fortranOrder: fortranOrder && rows > 1 && frameBytes > 1, content };
}

/**
 * Reads the first `min(frames, maxFrames)` rows as uint8, into memory from `allocate`. Throws FILE_UNREADABLE, BAD_FORMAT if the file is truncated while it is
 * read, and BAD_VIDEO if an array of another dtype than uint8 contains values that are not integers in 0..255.
 */
async function readRows(
  feature: PickledFeature,
  { frames, maxFrames, place }: { readonly frames: number; readonly maxFrames: number; readonly place: VideoPlace },
  { handle, file }: { readonly handle: FileHandle; readonly file: string },
  allocate: Allocate,
): Promise<FeatureBytes> {
  const { rows, frameBytes, dtype, fortranOrder, content } = feature;
  const kept = Math.min(frames, maxFrames);
  const data = allocate(kept * frameBytes);
  if (dtype === "u1" && !fortranOrder && typeof content === "number") {
    await readExactly(handle, data, content, file);
    return { frames, frameBytes, data };
  }
  const needed = (fortranOrder ? rows : kept) * frameBytes * itemBytes(dtype);
  const bytes = typeof content === "number" ? new Uint8Array(needed) : content.subarray(0, needed);
  if (typeof content === "number") await readExactly(handle, bytes, content, file);
  const numbers = decodeNumpy(bytes, dtype);
  if (dtype === "u1" && !fortranOrder) data.set(bytes);
  else
    for (let row = 0; row < kept; row++) {
      for (let column = 0; column < frameBytes; column++) {
        const value = Number(numbers[fortranOrder ? column * rows + row : row * frameBytes + column]);
        const byte = value & 0xff;
        if (byte !== value) throw notByte(value, { row, column }, feature, place);
        data[row * frameBytes + column] = byte;
      }
    }
  return { frames, frameBytes, data };
}

function notByte(
  value: number,
  { row, column }: { readonly row: number; readonly column: number },
  { key, dtype }: PickledFeature,
  place: VideoPlace,
): NextvladError {
  return new NextvladError("BAD_VIDEO", `value ${column} of frame ${row} of ${key} (${dtype}) is not an integer in 0..255`, {
    ...place,
    expected: "quantized features",
    found: value,
    remedy:
      "quantize float features to bytes, uint8(round((clip(x, -2, 2) + 2) * 255 / 4)), or save them as .npy and run nextvlad convert --csv (docs/own-features.md)",
  });
}
