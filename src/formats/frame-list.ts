import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import type { RecordPlace } from "./byte-source.js";
import { type FloatFrames, parseFloatFrames } from "./float-list.js";
import { countFrames, type FrameCount } from "./frame-count.js";
import { LENGTH_DELIMITED, tagOf, type WireReader } from "./wire.js";

/** Allocates this many bytes; their content is arbitrary. */
export type Allocate = (bytes: number) => Uint8Array;

/**
 * Allocates uninitialized memory in a buffer of its own. `Buffer.allocUnsafe` would take small pieces from a pool that can't be transferred to another thread.
 */
export const ownMemory: Allocate = (bytes) => new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);

/** The frames of one feature list, each a bytes value, stored contiguously. */
export interface FrameList {
  /** Number of frames in the record; `data` may contain fewer. */
  readonly frames: number;
  /** Bytes per frame, the same for all frames; 0 if there are no frames. */
  readonly frameBytes: number;
  /** `[min(frames, maxFrames), frameBytes] uint8`. */
  readonly data: Uint8Array;
}

export interface FrameListSettings {
  /** The list's name, for errors. */
  readonly name: string;
  /** Maximum number of frames to copy; with 0, frames are only checked and counted. */
  readonly maxFrames: number;
  readonly place: RecordPlace;
  /** Allocates the memory for the copied frames and, temporarily, their headers (some 10 bytes per frame). */
  readonly allocate: Allocate;
  /** Converts frames that are lists of floats to bytes, `[frames, size] uint8`; without it, such frames are an error. */
  readonly quantise?: Quantise | undefined;
}

/** Quantizes each value of the feature list `name` to a byte: `[frames, size]` float32 to uint8. */
export type Quantise = (floats: FloatFrames, name: string) => Uint8Array;

const NOTHING = new Uint8Array(0);
const FEATURE = tagOf(1, LENGTH_DELIMITED);
const BYTES_LIST = tagOf(1, LENGTH_DELIMITED);
const FLOAT_LIST = tagOf(2, LENGTH_DELIMITED);
const INT64_LIST = tagOf(3, LENGTH_DELIMITED);
const VALUE = tagOf(1, LENGTH_DELIMITED);

/**
 * Reads the FeatureList from the reader's cursor to `end`: checks and counts the frames, copies the byte range that contains them, and removes the gaps
 * between them in the copy. Creates no object per frame, which would cost more than the frame's bytes.
 * Throws BAD_FORMAT if it is not a FeatureList, BAD_VIDEO if frames are not bytes or differ in size.
 */
export function parseFrameList(reader: WireReader, end: number, settings: FrameListSettings): FrameList {
  const start = reader.pos;
  const { quantise, name, place } = settings;
  const floats = quantise === undefined ? null : parseFloatFrames(reader, end, name, place);
  if (quantise !== undefined && floats !== null) {
    return { frames: floats.frames, frameBytes: floats.size, data: quantise(floats, name) };
  }
  const counted = countFrames(reader, end);
  reader.pos = start;
  return counted === null ? parseEachFrame(reader, end, settings) : copyCounted(reader, end, counted, settings);
}

/** Copies frames that all have the same header bytes. */
function copyCounted(reader: WireReader, end: number, { frames, frameBytes }: FrameCount, settings: FrameListSettings): FrameList {
  const start = reader.pos;
  const step = (end - start) / frames;
  const kept = Math.min(frames, settings.maxFrames);
  reader.pos = end;
  if (kept === 0) return { frames, frameBytes, data: NOTHING };
  const data = settings.allocate(kept * step);
  data.set(reader.bytes.subarray(start, start + kept * step));
  for (let frame = 0; frame < kept; frame++) data.copyWithin(frame * frameBytes, (frame + 1) * step - frameBytes, (frame + 1) * step);
  return { frames, frameBytes, data: data.subarray(0, kept * frameBytes) };
}

/** Parses frames of any form, one by one. */
export function parseEachFrame(reader: WireReader, end: number, { name, maxFrames, place, allocate }: FrameListSettings): FrameList {
  const start = reader.pos;
  let frames = 0;
  let frameBytes = 0;
  let keptEnd = start;
  while (nextFrame(reader, end)) {
    const valueEnd = enterValue(reader, reader.lengthEnd(end), name, frames, place);
    const size = valueEnd - reader.pos;
    if (frames === 0) frameBytes = size;
    else if (size !== frameBytes) {
      throw new NextvladError("BAD_VIDEO", `frame ${frames} of ${showText(name)} is not as long as the first`, {
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
function nextFrame(reader: WireReader, end: number): boolean {
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag === FEATURE) return true;
    reader.skip(tag, end);
  }
  return false;
}

/** Moves the cursor to the start of the frame's only value and returns the value's end, which must also be the frame's end. Throws BAD_VIDEO. */
function enterValue(reader: WireReader, frameEnd: number, name: string, frame: number, place: RecordPlace): number {
  const start = reader.pos;
  const tag = start < frameEnd ? reader.varint32(frameEnd) : 0;
  if (tag === BYTES_LIST && reader.lengthEnd(frameEnd) === frameEnd && reader.pos < frameEnd) {
    if (reader.varint32(frameEnd) === VALUE && reader.lengthEnd(frameEnd) === frameEnd) return frameEnd;
  }
  const kinds = new Map([
    [BYTES_LIST, "several bytes values, or none"],
    [FLOAT_LIST, "a list of floats"],
    [INT64_LIST, "a list of integers"],
  ]);
  throw new NextvladError("BAD_VIDEO", `frame ${frame} of ${showText(name)} is not one bytes value`, {
    ...place,
    byteOffset: place.byteOffset + start,
    expected: "one bytes value, a byte for each feature",
    found: tag === 0 ? "nothing" : (kinds.get(tag) ?? `field ${tag >>> 3}`),
    remedy:
      tag === FLOAT_LIST
        ? "quantise the features to bytes as YouTube-8M does: nextvlad convert --to tfrecord --filelist LIST --out DIR (docs/own-features.md)"
        : "write each frame as one bytes value with a byte per feature, as YouTube-8M does",
    // Numbers of another type mean another kind of data set, not one corrupt record.
    ...(tag === FLOAT_LIST || tag === INT64_LIST ? {} : { damaged: "record" }),
  });
}
