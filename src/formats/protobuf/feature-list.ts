import { NextvladError } from "../../base/errors.js";
import { showText } from "../../base/shown-value.js";
import type { RecordPlace } from "../containers/byte-source.js";
import { FIXED32, LENGTH_DELIMITED, type ProtobufReader, tagOf, VARINT } from "./reader.js";

/** Allocates this many bytes; their content is arbitrary. */
export type Allocate = (bytes: number) => Uint8Array;

/**
 * Allocates uninitialized memory in a buffer of its own. `Buffer.allocUnsafe` would take small pieces from a pool that can't be transferred to another thread.
 */
export const allocateUnpooled: Allocate = (bytes) => new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);

/** The frames of one feature list, each a bytes value, stored contiguously. */
export interface FrameList {
  /** Number of frames in the record; `data` may contain fewer. */
  readonly frames: number;
  /** Bytes per frame, the same for all frames; 0 if there are no frames. */
  readonly frameBytes: number;
  /** `[min(frames, maxFrames), frameBytes] uint8`. */
  readonly data: Uint8Array;
}

export interface FrameListOptions {
  /** The list's name, for errors. */
  readonly name: string;
  /** Maximum number of frames to copy; with 0, frames are only checked and counted. */
  readonly maxFrames: number;
  readonly place: RecordPlace;
  /** Allocates the memory for the copied frames and, temporarily, their headers (some 10 bytes per frame). */
  readonly allocate: Allocate;
  /** Converts frames that are lists of floats to bytes, `[frames, size] uint8`; without it, such frames are an error. */
  readonly quantize?: Quantize | undefined;
}

/** Quantizes each value of the feature list `name` to a byte: `[frames, size]` float32 to uint8. */
export type Quantize = (floats: FloatFrames, name: string) => Uint8Array;

/** The frames of a feature list, each a list of floats. */
export interface FloatFrames {
  readonly frames: number;
  /** Values per frame, the same for all. */
  readonly size: number;
  /** `[frames, size]`. */
  readonly values: Float32Array;
}

/** The number and the size of the frames of a feature list. */
export interface FrameCount {
  readonly frames: number;
  /** Bytes per frame, the same for all frames. */
  readonly frameBytes: number;
}

// The messages (tensorflow/core/example/feature.proto), by field number:
//   FeatureList { repeated Feature feature = 1; }   Feature { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }
//   BytesList, FloatList, Int64List { repeated value = 1; }, numbers packed or not
const FEATURE = tagOf(1, LENGTH_DELIMITED);
const BYTES_LIST = tagOf(1, LENGTH_DELIMITED);
const FLOAT_LIST = tagOf(2, LENGTH_DELIMITED);
const INT64_LIST = tagOf(3, LENGTH_DELIMITED);
/** A bytes value, or packed numbers. */
const VALUE = tagOf(1, LENGTH_DELIMITED);
const UNPACKED_FLOAT = tagOf(1, FIXED32);
const UNPACKED_INT64 = tagOf(1, VARINT);

const NO_BYTES = new Uint8Array(0);
/** Range of the header sizes for which `countFrames` compares three words. */
const [MIN_HEADER_BYTES, MAX_HEADER_BYTES] = [6, 12];

/**
 * Reads the FeatureList from the reader's cursor to `end`: checks and counts the frames, copies the byte range that contains them, and removes the gaps
 * between them in the copy. Creates no object per frame, which would cost more than the frame's bytes.
 * Throws BAD_FORMAT if it is not a FeatureList, BAD_VIDEO if frames are not bytes or differ in size.
 */
export function parseFrameList(reader: ProtobufReader, end: number, options: FrameListOptions): FrameList {
  const start = reader.pos;
  const { quantize, name, place } = options;
  const floats = quantize === undefined ? null : parseFloatFrames(reader, end, name, place);
  if (quantize !== undefined && floats !== null) {
    return { frames: floats.frames, frameBytes: floats.size, data: quantize(floats, name) };
  }
  const counted = countFrames(reader, end);
  reader.pos = start;
  return counted === null ? parseFramesOneByOne(reader, end, options) : copyFrames(reader, end, counted, options);
}

/** Copies frames that all have the same header bytes. */
function copyFrames(reader: ProtobufReader, end: number, { frames, frameBytes }: FrameCount, options: FrameListOptions): FrameList {
  const start = reader.pos;
  const step = (end - start) / frames;
  const kept = Math.min(frames, options.maxFrames);
  reader.pos = end;
  if (kept === 0) return { frames, frameBytes, data: NO_BYTES };
  const data = options.allocate(kept * step);
  data.set(reader.bytes.subarray(start, start + kept * step));
  for (let frame = 0; frame < kept; frame++) data.copyWithin(frame * frameBytes, (frame + 1) * step - frameBytes, (frame + 1) * step);
  return { frames, frameBytes, data: data.subarray(0, kept * frameBytes) };
}

/** Parses frames of any form, one by one. */
export function parseFramesOneByOne(
  reader: ProtobufReader,
  end: number,
  { name, maxFrames, place, allocate }: FrameListOptions,
): FrameList {
  const start = reader.pos;
  let frames = 0;
  let frameBytes = 0;
  let keptEnd = start;
  while (nextFrame(reader, end)) {
    const valueEnd = enterValue(reader, reader.lengthEnd(end), name, frames, place);
    const size = valueEnd - reader.pos;
    if (frames === 0) frameBytes = size;
    else if (size !== frameBytes) {
      throw new NextvladError("BAD_VIDEO", `frame ${frames} of ${showText(name)} differs in size from the first`, {
        ...place,
        byteOffset: place.byteOffset + reader.pos,
        expected: `${frameBytes} bytes`,
        found: `${size} bytes`,
        remedy: "write each frame of a feature with the same number of bytes",
        damaged: "record",
      });
    }
    reader.pos = valueEnd;
    if (frames++ < maxFrames) keptEnd = valueEnd;
  }
  const kept = Math.min(frames, maxFrames);
  const data = allocate(keptEnd - start);
  data.set(reader.bytes.subarray(start, keptEnd));
  reader.pos = start;
  for (let frame = 0; frame < kept && nextFrame(reader, end); frame++) {
    const valueEnd = enterValue(reader, reader.lengthEnd(end), name, frame, place);
    data.copyWithin(frame * frameBytes, reader.pos - start, valueEnd - start);
    reader.pos = valueEnd;
  }
  return { frames, frameBytes, data: data.subarray(0, kept * frameBytes) };
}

/** Moves the cursor to the next frame's length; returns false at the end of the list. */
function nextFrame(reader: ProtobufReader, end: number): boolean {
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag === FEATURE) return true;
    reader.skip(tag, end);
  }
  return false;
}

/** Moves the cursor to the start of the frame's only value and returns the value's end, which must also be the frame's end. Throws BAD_VIDEO. */
function enterValue(reader: ProtobufReader, frameEnd: number, name: string, frame: number, place: RecordPlace): number {
  const start = reader.pos;
  const tag = start < frameEnd ? reader.varint32(frameEnd) : 0;
  if (tag === BYTES_LIST && reader.lengthEnd(frameEnd) === frameEnd && reader.pos < frameEnd) {
    if (reader.varint32(frameEnd) === VALUE && reader.lengthEnd(frameEnd) === frameEnd) return frameEnd;
  }
  const types = new Map([
    [BYTES_LIST, "no bytes value, or several"],
    [FLOAT_LIST, "a list of floats"],
    [INT64_LIST, "a list of integers"],
  ]);
  throw new NextvladError("BAD_VIDEO", `frame ${frame} of ${showText(name)} is not one bytes value`, {
    ...place,
    byteOffset: place.byteOffset + start,
    expected: "one bytes value with one byte per feature",
    found: tag === 0 ? "nothing" : (types.get(tag) ?? `field ${tag >>> 3}`),
    remedy:
      tag === FLOAT_LIST
        ? "quantize the features to bytes as YouTube-8M does: nextvlad convert --to tfrecord --filelist LIST --out DIR (docs/own-features.md)"
        : "write each frame as one bytes value with a byte per feature, as YouTube-8M does",
    // Numbers of another type mean another kind of data set, not one corrupt record.
    ...(tag === FLOAT_LIST || tag === INT64_LIST ? {} : { damaged: "record" }),
  });
}

/**
 * Counts the frames of a FeatureList (see `parseFrameList`) from the reader's cursor to `end`, many times faster than by parsing each: almost all writers put
 * the same header bytes before each frame's value, so comparing them suffices. Returns null if the list does not have this form, which does not mean that it
 * is invalid. Throws BAD_FORMAT if the first frame is not a valid message.
 */
export function countFrames(reader: ProtobufReader, end: number): FrameCount | null {
  const start = reader.pos;
  const frameEnd = enter(reader, end);
  // A frame contains exactly one list, and the list exactly one value.
  if (frameEnd === 0 || enter(reader, frameEnd) !== frameEnd || enter(reader, frameEnd) !== frameEnd) return null;
  const [headerBytes, length] = [reader.pos - start, frameEnd - start];
  if (headerBytes < MIN_HEADER_BYTES || headerBytes > MAX_HEADER_BYTES) return null;
  const frames = 1 + countRepeats(reader.bytes, { start, end }, headerBytes, length);
  return start + frames * length === end ? { frames, frameBytes: length - headerBytes } : null;
}

/** Moves the cursor to the content of the field 1 that starts at the cursor, and returns the end of the content; returns 0 if there is no such field. */
function enter(reader: ProtobufReader, end: number): number {
  return reader.pos < end && reader.varint32(end) === VALUE ? reader.lengthEnd(end) : 0;
}

/** Counts the blocks of `length` bytes after the one at `start` that begin with the same `headerBytes` (4 to 12) bytes. */
function countRepeats(bytes: Uint8Array, { start, end }: { start: number; end: number }, headerBytes: number, length: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  // Three 32-bit words, which overlap if the header has fewer than twelve bytes.
  const middle = Math.min(4, headerBytes - 4);
  const last = headerBytes - 4;
  const [word0, word1, word2] = [view.getUint32(start), view.getUint32(start + middle), view.getUint32(start + last)];
  let next = start + length;
  for (; next + length <= end; next += length) {
    if (view.getUint32(next) !== word0 || view.getUint32(next + middle) !== word1 || view.getUint32(next + last) !== word2) break;
  }
  return (next - start) / length - 1;
}

/**
 * Reads the FeatureList from the reader's cursor to `end` if its first frame is a list of floats, packed or not. Returns null otherwise, with the cursor where
 * it was if the list has a frame. `name` is for errors. Throws BAD_FORMAT if it is not a FeatureList, BAD_VIDEO if frames have no values, differ in length, or
 * are not lists of floats like the first.
 */
export function parseFloatFrames(reader: ProtobufReader, end: number, name: string, place: RecordPlace): FloatFrames | null {
  const start = reader.pos;
  // Allocated at the first frame, for the largest possible count: a value takes at least four bytes.
  let values: Float32Array | null = null;
  let [count, frames, size] = [0, 0, 0];
  const view = new DataView(reader.bytes.buffer, reader.bytes.byteOffset, reader.bytes.byteLength);
  while (nextFrame(reader, end)) {
    const frameEnd = reader.lengthEnd(end);
    const isFloats = reader.pos < frameEnd && reader.varint32(frameEnd) === FLOAT_LIST && reader.lengthEnd(frameEnd) === frameEnd;
    if (!isFloats && frames === 0) {
      reader.pos = start;
      return null;
    }
    if (!isFloats) throw invalidFrames(`frame ${frames} of ${showText(name)} is not a list of floats like the first`, place);
    values ??= new Float32Array((end - start) >> 2);
    const before = count;
    while (reader.pos < frameEnd) {
      const valueTag = reader.varint32(frameEnd);
      if (valueTag !== VALUE && valueTag !== UNPACKED_FLOAT) {
        reader.skip(valueTag, frameEnd);
        continue;
      }
      const valueEnd = valueTag === VALUE ? reader.lengthEnd(frameEnd) : reader.pos + 4;
      if (valueEnd > frameEnd || (valueEnd - reader.pos) % 4 !== 0) throw reader.error("truncated list of floats", reader.pos);
      for (; reader.pos < valueEnd; reader.pos += 4) values[count++] = view.getFloat32(reader.pos, true);
    }
    if (frames === 0) {
      if (count === 0) throw invalidFrames(`the frames of ${showText(name)} are empty`, place);
      size = count;
    }
    if (count - before !== size) {
      throw invalidFrames(`frame ${frames} of ${showText(name)} has ${count - before} values, the first has ${size}`, place);
    }
    frames++;
  }
  return values === null ? null : { frames, size, values: values.subarray(0, count) };
}

function invalidFrames(what: string, place: RecordPlace): NextvladError {
  const remedy = "write the same number of values, at least one, in each frame of a feature";
  return new NextvladError("BAD_VIDEO", what, { ...place, remedy, damaged: "record" });
}

/** A summary of the frames of a feature list, of any type. */
export interface FeatureListSummary {
  /** The type of all frames: "mixed" if they differ, "none" if there are no frames or they contain no list. */
  readonly type: "bytes" | "float" | "int64" | "mixed" | "none";
  readonly frames: number;
  /** The smallest and the largest frame: bytes of its values, or number of its numbers; 0 without frames. */
  readonly sizes: readonly [min: number, max: number];
  /** Whether each frame is one bytes value, all of the same size. */
  readonly isUniform: boolean;
}

const LIST_TYPES: ReadonlyMap<number, "bytes" | "float" | "int64"> = new Map([
  [BYTES_LIST, "bytes"],
  [FLOAT_LIST, "float"],
  [INT64_LIST, "int64"],
]);

interface FrameSummary {
  type: FeatureListSummary["type"];
  /** Number of bytes values or of numbers. */
  values: number;
  /** Total bytes of the values, or number of numbers. */
  size: number;
}

/** Summarizes the FeatureList from the reader's cursor to `end`. Throws BAD_FORMAT if it is not a FeatureList. */
export function summarizeFeatureList(reader: ProtobufReader, end: number): FeatureListSummary {
  let type: FeatureListSummary["type"] = "none";
  let frames = 0;
  let [min, max] = [Number.POSITIVE_INFINITY, 0];
  let isSingle = true;
  while (nextFrame(reader, end)) {
    const frame = summarizeFrame(reader, reader.lengthEnd(end));
    type = frames === 0 || frame.type === type ? frame.type : "mixed";
    min = Math.min(min, frame.size);
    max = Math.max(max, frame.size);
    isSingle &&= frame.values === 1;
    frames++;
  }
  return { type, frames, sizes: [frames === 0 ? 0 : min, max], isUniform: type === "bytes" && isSingle && min === max };
}

function summarizeFrame(reader: ProtobufReader, end: number): FrameSummary {
  const frame: FrameSummary = { type: "none", values: 0, size: 0 };
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    const type = LIST_TYPES.get(tag);
    if (type === undefined) {
      reader.skip(tag, end);
      continue;
    }
    frame.type = type;
    const listEnd = reader.lengthEnd(end);
    while (reader.pos < listEnd) countValues(reader, listEnd, type, frame);
  }
  return frame;
}

/** Adds one bytes value, one number, or a packed list of numbers to `frame`. */
function countValues(reader: ProtobufReader, end: number, type: "bytes" | "float" | "int64", frame: FrameSummary): void {
  const tag = reader.varint32(end);
  if (tag === (type === "float" ? UNPACKED_FLOAT : UNPACKED_INT64) && type !== "bytes") {
    reader.skip(tag, end);
    frame.values++;
    frame.size++;
    return;
  }
  if (tag !== VALUE) {
    reader.skip(tag, end);
    return;
  }
  const valueEnd = reader.lengthEnd(end);
  const length = valueEnd - reader.pos;
  if (type === "int64") {
    for (; reader.pos < valueEnd; frame.values++, frame.size++) reader.int64(valueEnd);
    return;
  }
  reader.pos = valueEnd;
  frame.values += type === "float" ? Math.floor(length / 4) : 1;
  frame.size += type === "float" ? Math.floor(length / 4) : length;
}
