import { NextvladError } from "../base/errors.js";
import type { RecordPlace } from "./byte-source.js";
import { type Allocate, type FrameList, ownMemory, parseFrameList, type Quantise } from "./frame-list.js";
import { type ListSummary, summariseList } from "./list-summary.js";
import { decodeText, LENGTH_DELIMITED, tagOf, VARINT, WireReader } from "./wire.js";

/** One context feature's values, of whichever kind it is; float values are not unpacked. */
export type ContextFeature =
  | { readonly kind: "bytes"; readonly values: readonly Uint8Array[] }
  | { readonly kind: "int64"; readonly values: readonly number[] }
  | { readonly kind: "float" }
  | { readonly kind: "none" };

/** What this tool needs of a tf.train.SequenceExample. */
export interface SequenceExample {
  readonly context: ReadonlyMap<string, ContextFeature>;
  /** The feature lists that were asked for and are there. */
  readonly frameLists: ReadonlyMap<string, FrameList>;
  /** The names of all feature lists that are there. */
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

/**
 * Reads a SequenceExample straight from the wire: the context, and of the feature lists those in `listNames`, each frame one bytes value,
 * at most `maxFrames` of them copied to where `allocate` says (with 0, they are checked and counted). Nothing in the result but the context's bytes values shares memory with `bytes`.
 * `quantise` takes frames that are lists of floats, all of them. Throws BAD_FORMAT for what is no SequenceExample, BAD_VIDEO for frames that are no bytes or of unequal size.
 */
export function parseSequenceExample(
  bytes: Uint8Array,
  place: RecordPlace,
  listNames: readonly string[],
  maxFrames: number,
  allocate: Allocate = ownMemory,
  quantise?: Quantise,
): SequenceExample {
  const { reader, context, listSpans } = scanExample(bytes, place);
  const frameLists = new Map<string, FrameList>();
  for (const name of listNames) {
    const span = listSpans.get(name);
    if (span === undefined) continue;
    reader.pos = span.start;
    frameLists.set(name, parseFrameList(reader, span.end, { name, maxFrames, place, allocate, quantise }));
  }
  return { context, frameLists, listNames: [...listSpans.keys()] };
}

/** The context of a SequenceExample, and what each of its feature lists is, whatever its type. Throws BAD_FORMAT. */
export function describeSequenceExample(
  bytes: Uint8Array,
  place: RecordPlace,
): { readonly context: SequenceExample["context"]; readonly lists: ReadonlyMap<string, ListSummary> } {
  const { reader, context, listSpans } = scanExample(bytes, place);
  const lists = new Map<string, ListSummary>();
  for (const [name, { start, end }] of listSpans) {
    reader.pos = start;
    lists.set(name, summariseList(reader, end));
  }
  return { context, lists };
}

/** Reads the context, and where the feature lists are. */
function scanExample(bytes: Uint8Array, place: RecordPlace) {
  const reader = new WireReader(bytes, place);
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

/**
 * Whether bytes are a SequenceExample alone, outside a TFRecord: fields of a context and feature lists up to their end, each beginning with a map's entry.
 */
export function isSequenceExample(bytes: Uint8Array): boolean {
  const reader = new WireReader(bytes, { file: "", record: 0, byteOffset: 0 });
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

/** A message's place in the record. */
interface Span {
  readonly start: number;
  readonly end: number;
}

const EMPTY: Span = { start: 0, end: 0 };

/** Reads a message that is one map, at the cursor; a key that comes twice has the last of its values, as Protocol Buffers has it. */
function readMap(reader: WireReader, outerEnd: number, each: (key: string, value: Span) => void): void {
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

function readFeature(reader: WireReader, { start, end }: Span): ContextFeature {
  let feature: ContextFeature = { kind: "none" };
  reader.pos = start;
  while (reader.pos < end) {
    const tag = reader.varint32(end);
    if (tag === FIELD_1) feature = { kind: "bytes", values: readBytesList(reader, end) };
    else if (tag === FIELD_3) feature = { kind: "int64", values: readInt64List(reader, end) };
    else {
      if (tag === FIELD_2) feature = { kind: "float" };
      reader.skip(tag, end);
    }
  }
  return feature;
}

function readBytesList(reader: WireReader, outerEnd: number): Uint8Array[] {
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

/** Writers may pack the numbers into one field or give each its own; readers must take both. */
function readInt64List(reader: WireReader, outerEnd: number): number[] {
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
