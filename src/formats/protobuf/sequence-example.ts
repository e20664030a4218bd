import { NextvladError } from "../../base/errors.js";
import type { RecordPlace } from "../containers/byte-source.js";
import {
  type Allocate,
  allocateUnpooled,
  type FeatureListSummary,
  type FrameList,
  parseFrameList,
  type Quantize,
  summarizeFeatureList,
} from "./feature-list.js";
import { decodeText, FIXED32, LENGTH_DELIMITED, ProtobufReader, tagOf, VARINT } from "./reader.js";
import { concat, field, type Message, rawBytes, stringField, varint } from "./writer.js";

/** The values of one context feature. */
export type ContextFeature =
  | { readonly kind: "bytes"; readonly values: readonly Uint8Array[] }
  | { readonly kind: "int64"; readonly values: readonly number[] }
  | { readonly kind: "float"; readonly values: readonly number[] }
  | { readonly kind: "none" };

/** The parts of a tf.train.SequenceExample that this tool needs. */
export interface SequenceExample {
  readonly context: ReadonlyMap<string, ContextFeature>;
  /** The requested feature lists that the record has. */
  readonly frameLists: ReadonlyMap<string, FrameList>;
  /** The names of all feature lists of the record. */
  readonly listNames: readonly string[];
}

// The messages (tensorflow/core/example/{example,feature}.proto), by field number:
//   SequenceExample { Features context = 1; FeatureLists feature_lists = 2; }
//   Features        { map<string, Feature> feature = 1; }       FeatureLists { map<string, FeatureList> feature_list = 1; }
//   Feature         { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }   FeatureList { repeated Feature feature = 1; }
//   a map's entry   { string key = 1; VALUE value = 2; }        BytesList, FloatList, Int64List { repeated value = 1; }
const FIELD_1 = tagOf(1, LENGTH_DELIMITED);
const FIELD_2 = tagOf(2, LENGTH_DELIMITED);
const FIELD_3 = tagOf(3, LENGTH_DELIMITED);
const UNPACKED_INT64 = tagOf(1, VARINT);
const UNPACKED_FLOAT = tagOf(1, FIXED32);

export interface ParseOptions {
  /** The feature lists to read; others are only listed. */
  readonly listNames: readonly string[];
  /** Maximum number of frames to copy per list; with 0, frames are only checked and counted. */
  readonly maxFrames: number;
  readonly allocate?: Allocate;
  /** Converts all frames that are lists of floats; without it, such frames are an error. */
  readonly quantize?: Quantize;
}

/**
 * Parses a SequenceExample: the context, and feature lists whose frames are one bytes value each. Frames are copied; the bytes values of the context are views
 * of `bytes`. Throws BAD_FORMAT if it is not a SequenceExample, BAD_VIDEO if frames are not bytes or differ in size.
 */
export function parseSequenceExample(
  bytes: Uint8Array,
  place: RecordPlace,
  { listNames, maxFrames, allocate = allocateUnpooled, quantize }: ParseOptions,
): SequenceExample {
  const { reader, context, listSpans } = scanExample(bytes, place);
  const frameLists = new Map<string, FrameList>();
  for (const name of listNames) {
    const span = listSpans.get(name);
    if (span === undefined) continue;
    reader.pos = span.start;
    frameLists.set(name, parseFrameList(reader, span.end, { name, maxFrames, place, allocate, quantize }));
  }
  return { context, frameLists, listNames: [...listSpans.keys()] };
}

/** Returns the context of a SequenceExample, and a summary of each feature list, of any type. Throws BAD_FORMAT. */
export function describeSequenceExample(
  bytes: Uint8Array,
  place: RecordPlace,
): { readonly context: SequenceExample["context"]; readonly lists: ReadonlyMap<string, FeatureListSummary> } {
  const { reader, context, listSpans } = scanExample(bytes, place);
  const lists = new Map<string, FeatureListSummary>();
  for (const [name, { start, end }] of listSpans) {
    reader.pos = start;
    lists.set(name, summarizeFeatureList(reader, end));
  }
  return { context, lists };
}

/** Reads the context and finds the byte ranges of the feature lists. */
function scanExample(bytes: Uint8Array, place: RecordPlace) {
  const reader = new ProtobufReader(bytes, place);
  const context = new Map<string, ContextFeature>();
  const listSpans = new Map<string, Span>();
  while (reader.pos < bytes.length) {
    const tag = reader.varint32(bytes.length);
    if (tag === FIELD_1) readMap(reader, bytes.length, (key, span) => context.set(key, readFeature(reader, span)));
    else if (tag === FIELD_2) readMap(reader, bytes.length, (key, span) => listSpans.set(key, span));
    else reader.skip(tag, bytes.length);
  }
  return { reader, context, listSpans };
}

/** Whether bytes are a SequenceExample without TFRecord framing: only fields of a context and feature lists, each beginning with a map entry. */
export function isSequenceExample(bytes: Uint8Array): boolean {
  const reader = new ProtobufReader(bytes, { file: "", record: 0, byteOffset: 0 });
  try {
    while (reader.pos < bytes.length) {
      const tag = reader.varint32(bytes.length);
      if (tag !== FIELD_1 && tag !== FIELD_2) return false;
      const end = reader.lengthEnd(bytes.length);
      if (reader.pos < end && reader.varint32(end) !== FIELD_1) return false;
      reader.pos = end;
    }
  } catch (error) {
    if (error instanceof NextvladError) return false;
    throw error;
  }
  return bytes.length > 0;
}

/** A message's byte range in the record. */
interface Span {
  readonly start: number;
  readonly end: number;
}

const EMPTY: Span = { start: 0, end: 0 };

/** Reads a message that is one map, at the cursor; `each` is called in order, so the last value of a duplicate key wins, as in Protocol Buffers. */
function readMap(reader: ProtobufReader, outerEnd: number, each: (key: string, value: Span) => void): void {
  const end = reader.lengthEnd(outerEnd);
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag !== FIELD_1) {
      reader.skip(tag, end);
      continue;
    }
    const entryEnd = reader.lengthEnd(end);
    let key = EMPTY;
    let value = EMPTY;
    while (reader.pos < entryEnd) {
      const entryTag = reader.varint32(entryEnd);
      if (entryTag !== FIELD_1 && entryTag !== FIELD_2) {
        reader.skip(entryTag, entryEnd);
        continue;
      }
      const spanEnd = reader.lengthEnd(entryEnd);
      const span = { start: reader.pos, end: spanEnd };
      if (entryTag === FIELD_1) key = span;
      else value = span;
      reader.pos = spanEnd;
    }
    each(decodeText(reader.bytes, key.start, key.end), value);
    reader.pos = entryEnd;
  }
}

function readFeature(reader: ProtobufReader, { start, end }: Span): ContextFeature {
  let feature: ContextFeature = { kind: "none" };
  reader.pos = start;
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag === FIELD_1) feature = { kind: "bytes", values: readBytesList(reader, end) };
    else if (tag === FIELD_2) feature = { kind: "float", values: readFloatList(reader, end) };
    else if (tag === FIELD_3) feature = { kind: "int64", values: readInt64List(reader, end) };
    else reader.skip(tag, end);
  }
  return feature;
}

function readBytesList(reader: ProtobufReader, outerEnd: number): Uint8Array[] {
  const end = reader.lengthEnd(outerEnd);
  const values: Uint8Array[] = [];
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag === FIELD_1) {
      const valueEnd = reader.lengthEnd(end);
      values.push(reader.bytes.subarray(reader.pos, valueEnd));
      reader.pos = valueEnd;
    } else reader.skip(tag, end);
  }
  return values;
}

/** Writers may pack the numbers into one field or write a field for each; readers must accept both. */
function readInt64List(reader: ProtobufReader, outerEnd: number): number[] {
  const end = reader.lengthEnd(outerEnd);
  const values: number[] = [];
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag === UNPACKED_INT64) values.push(reader.int64(end));
    else if (tag === FIELD_1) {
      const packedEnd = reader.lengthEnd(end);
      while (reader.pos < packedEnd) values.push(reader.int64(packedEnd));
    } else reader.skip(tag, end);
  }
  return values;
}

/** As `readInt64List`: packed, or a field for each number. */
function readFloatList(reader: ProtobufReader, outerEnd: number): number[] {
  const end = reader.lengthEnd(outerEnd);
  const { bytes } = reader;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const values: number[] = [];
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag !== FIELD_1 && tag !== UNPACKED_FLOAT) {
      reader.skip(tag, end);
      continue;
    }
    const valueEnd = tag === FIELD_1 ? reader.lengthEnd(end) : reader.pos + 4;
    if (valueEnd > end || (valueEnd - reader.pos) % 4 !== 0) throw reader.error("truncated list of floats", reader.pos);
    for (; reader.pos < valueEnd; reader.pos += 4) values.push(view.getFloat32(reader.pos, true));
  }
  return values;
}

/** One feature list to write: `data` is `[frames, frameBytes] uint8`. */
export interface EncodedFrames {
  readonly name: string;
  readonly frameBytes: number;
  readonly data: Uint8Array;
}

/** A SequenceExample to write: context features by name (bytes, as one value, or int64s), and feature lists, in the given order. */
export interface SequenceExampleContent {
  readonly context: Readonly<Record<string, Uint8Array | readonly number[] | Int32Array>>;
  readonly frameLists: readonly EncodedFrames[];
}

/** Encodes a tf.train.SequenceExample as `parseSequenceExample` (and TensorFlow) reads it: frames as bytes values, int64 lists packed. */
export function encodeSequenceExample({ context, frameLists }: SequenceExampleContent): Uint8Array {
  const features = Object.entries(context).map(([name, values]) => {
    const list = values instanceof Uint8Array ? field(1, field(1, rawBytes(values))) : field(3, packInt64s(values));
    return mapEntry(name, list);
  });
  const lists = frameLists.map((list) => mapEntry(list.name, encodeFrames(list)));
  const example = concat([field(1, concat(features)), field(2, concat(lists))]);
  return new Uint8Array(Buffer.concat(example.pieces, example.size));
}

/** All frames have the same length, so the header bytes before each frame are the same and are encoded once. */
function encodeFrames({ frameBytes, data }: EncodedFrames): Message {
  const frame = field(1, field(1, field(1, rawBytes(new Uint8Array(frameBytes)))));
  const before = Buffer.concat(frame.pieces.slice(0, -1));
  const pieces: Uint8Array[] = [];
  for (let start = 0; start + frameBytes <= data.length && frameBytes > 0; start += frameBytes) {
    pieces.push(before, data.subarray(start, start + frameBytes));
  }
  return { pieces, size: (pieces.length / 2) * frame.size };
}

function mapEntry(key: string, value: Message): Message {
  return field(1, concat([stringField(1, key), field(2, value)]));
}

/** Writes no field for an empty list, like TensorFlow's own writer. */
function packInt64s(values: readonly number[] | Int32Array): Message {
  return values.length === 0 ? concat([]) : field(1, rawBytes(new Uint8Array(Array.from(values, varint).flat())));
}
