import { FIXED32, LENGTH_DELIMITED, tagOf, VARINT, type WireReader } from "./wire.js";

/** A summary of the frames of a feature list, of any type. */
export interface ListSummary {
  /** The type of all frames: "mixed" if they differ, "none" if there are no frames or they contain no list. */
  readonly type: "bytes" | "float" | "int64" | "mixed" | "none";
  readonly frames: number;
  /** The smallest and the largest frame: bytes of its values, or number of its numbers; 0 without frames. */
  readonly sizes: readonly [min: number, max: number];
  /** Whether each frame is one bytes value, all of the same size. */
  readonly isUniform: boolean;
}

const FEATURE = tagOf(1, LENGTH_DELIMITED);
const TYPES: ReadonlyMap<number, "bytes" | "float" | "int64"> = new Map([
  [tagOf(1, LENGTH_DELIMITED), "bytes"],
  [tagOf(2, LENGTH_DELIMITED), "float"],
  [tagOf(3, LENGTH_DELIMITED), "int64"],
]);
const VALUE = tagOf(1, LENGTH_DELIMITED);
const UNPACKED_FLOAT = tagOf(1, FIXED32);
const UNPACKED_INT64 = tagOf(1, VARINT);

interface Frame {
  type: ListSummary["type"];
  /** Number of bytes values or of numbers. */
  values: number;
  /** Total bytes of the values, or number of numbers. */
  size: number;
}

/** Summarizes the FeatureList from the reader's cursor to `end`. Throws BAD_FORMAT if it is not a FeatureList. */
export function summariseList(reader: WireReader, end: number): ListSummary {
  let type: ListSummary["type"] = "none";
  let frames = 0;
  let [min, max] = [Number.POSITIVE_INFINITY, 0];
  let isSingle = true;
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag !== FEATURE) {
      reader.skip(tag, end);
      continue;
    }
    const frame = readFrame(reader, reader.lengthEnd(end));
    type = frames === 0 || frame.type === type ? frame.type : "mixed";
    min = Math.min(min, frame.size);
    max = Math.max(max, frame.size);
    isSingle &&= frame.values === 1;
    frames++;
  }
  return { type, frames, sizes: [frames === 0 ? 0 : min, max], isUniform: type === "bytes" && isSingle && min === max };
}

function readFrame(reader: WireReader, end: number): Frame {
  const frame: Frame = { type: "none", values: 0, size: 0 };
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    const type = TYPES.get(tag);
    if (type === undefined) {
      reader.skip(tag, end);
      continue;
    }
    frame.type = type;
    const listEnd = reader.lengthEnd(end);
    while (reader.pos < listEnd) readValue(reader, listEnd, type, frame);
  }
  return frame;
}

/** Adds one bytes value, one number, or a packed list of numbers to `frame`. */
function readValue(reader: WireReader, end: number, type: "bytes" | "float" | "int64", frame: Frame): void {
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
