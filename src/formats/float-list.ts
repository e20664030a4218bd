import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import type { RecordPlace } from "./byte-source.js";
import { FIXED32, LENGTH_DELIMITED, tagOf, type WireReader } from "./wire.js";

/** The frames of a feature list, each a list of floats. */
export interface FloatFrames {
  readonly frames: number;
  /** Values per frame, the same for all. */
  readonly size: number;
  /** `[frames, size]`. */
  readonly values: Float32Array;
}

const FEATURE = tagOf(1, LENGTH_DELIMITED);
const FLOAT_LIST = tagOf(2, LENGTH_DELIMITED);
const PACKED = tagOf(1, LENGTH_DELIMITED);
const UNPACKED = tagOf(1, FIXED32);

/**
 * Reads the FeatureList from the reader's cursor to `end` if its first frame is a list of floats, packed or not. Returns null otherwise, with the cursor where
 * it was if the list has a frame. `name` is for errors. Throws BAD_FORMAT if it is not a FeatureList, BAD_VIDEO if frames have no values, differ in length, or
 * are not lists of floats like the first.
 */
export function parseFloatFrames(reader: WireReader, end: number, name: string, place: RecordPlace): FloatFrames | null {
  const start = reader.pos;
  // Allocated at the first frame, for the largest possible count: a value takes at least four bytes.
  let values: Float32Array | null = null;
  let [count, frames, size] = [0, 0, 0];
  const view = new DataView(reader.bytes.buffer, reader.bytes.byteOffset, reader.bytes.byteLength);
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag !== FEATURE) {
      reader.skip(tag, end);
      continue;
    }
    const frameEnd = reader.lengthEnd(end);
    const isFloats = reader.pos < frameEnd && reader.varint32(frameEnd) === FLOAT_LIST && reader.lengthEnd(frameEnd) === frameEnd;
    if (!isFloats && frames === 0) {
      reader.pos = start;
      return null;
    }
    if (!isFloats) throw badFrames(`frame ${frames} of ${showText(name)} is not a list of floats, as the first`, place);
    values ??= new Float32Array((end - start) >> 2);
    const before = count;
    while (reader.pos < frameEnd) {
      const valueTag = reader.varint32(frameEnd);
      if (valueTag !== PACKED && valueTag !== UNPACKED) {
        reader.skip(valueTag, frameEnd);
        continue;
      }
      const valueEnd = valueTag === PACKED ? reader.lengthEnd(frameEnd) : reader.pos + 4;
      if (valueEnd > frameEnd || (valueEnd - reader.pos) % 4 !== 0) throw reader.error("a list of floats ends within one", reader.pos);
      for (; reader.pos < valueEnd; reader.pos += 4) values[count++] = view.getFloat32(reader.pos, true);
    }
    if (frames === 0) {
      if (count === 0) throw badFrames(`the frames of ${showText(name)} have no values`, place);
      size = count;
    }
    if (count - before !== size) {
      throw badFrames(`frame ${frames} of ${showText(name)} has ${count - before} values and the first ${size}`, place);
    }
    frames++;
  }
  return values === null ? null : { frames, size, values: values.subarray(0, count) };
}

function badFrames(what: string, place: RecordPlace): NextvladError {
  const remedy = "write values into each frame of a feature, the same number in all";
  return new NextvladError("BAD_VIDEO", what, { ...place, remedy, damaged: "record" });
}
