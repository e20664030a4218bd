import { LENGTH_DELIMITED, tagOf } from "./wire.js";

/** One feature list to write: `data` is `[frames, frameBytes] uint8`. */
export interface EncodedFrames {
  readonly name: string;
  readonly frameBytes: number;
  readonly data: Uint8Array;
}

/** A SequenceExample to write: context features by name - bytes (one value) or int64s - and feature lists, in the order given. */
export interface SequenceExampleContent {
  readonly context: Readonly<Record<string, Uint8Array | readonly number[] | Int32Array>>;
  readonly frameLists: readonly EncodedFrames[];
}

/** A message as pieces to be joined once, at the end, however deep it lies. */
interface Message {
  readonly pieces: readonly Uint8Array[];
  readonly size: number;
}

/** Writes a tf.train.SequenceExample as `parseSequenceExample` (and TensorFlow) reads it: frames as bytes values, int64 lists packed. */
export function encodeSequenceExample({ context, frameLists }: SequenceExampleContent): Uint8Array {
  const features = Object.entries(context).map(([name, values]) => {
    const list = values instanceof Uint8Array ? field(1, field(1, leaf(values))) : field(3, packInt64s(values));
    return mapEntry(name, list);
  });
  const lists = frameLists.map((list) => mapEntry(list.name, encodeFrames(list)));
  const example = join([field(1, join(features)), field(2, join(lists))]);
  return new Uint8Array(Buffer.concat(example.pieces, example.size));
}

/** All frames are of one length, so what stands before each frame's bytes is the same: it is made once. */
function encodeFrames({ frameBytes, data }: EncodedFrames): Message {
  const frame = field(1, field(1, field(1, leaf(new Uint8Array(frameBytes)))));
  const before = Buffer.concat(frame.pieces.slice(0, -1));
  const pieces: Uint8Array[] = [];
  for (let start = 0; start + frameBytes <= data.length && frameBytes > 0; start += frameBytes) {
    pieces.push(before, data.subarray(start, start + frameBytes));
  }
  return { pieces, size: (pieces.length / 2) * frame.size };
}

function mapEntry(key: string, value: Message): Message {
  return field(1, join([field(1, leaf(Buffer.from(key, "utf8"))), field(2, value)]));
}

function field(number: number, content: Message): Message {
  const head = new Uint8Array([...varint(tagOf(number, LENGTH_DELIMITED)), ...varint(content.size)]);
  return { pieces: [head, ...content.pieces], size: head.length + content.size };
}

function leaf(bytes: Uint8Array): Message {
  return { pieces: [bytes], size: bytes.length };
}

function join(parts: readonly Message[]): Message {
  return { pieces: parts.flatMap((part) => part.pieces), size: parts.reduce((sum, part) => sum + part.size, 0) };
}

/** As TensorFlow's own writer: no field at all for an empty list. */
function packInt64s(values: readonly number[] | Int32Array): Message {
  return values.length === 0 ? join([]) : field(1, leaf(new Uint8Array(Array.from(values, varint).flat())));
}

/** A whole number as a varint; a negative one, as an int64, takes ten bytes. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}
