import { field, join, leaf, type Message, textField, varint } from "./wire-writer.js";

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
    const list = values instanceof Uint8Array ? field(1, field(1, leaf(values))) : field(3, packInt64s(values));
    return mapEntry(name, list);
  });
  const lists = frameLists.map((list) => mapEntry(list.name, encodeFrames(list)));
  const example = join([field(1, join(features)), field(2, join(lists))]);
  return new Uint8Array(Buffer.concat(example.pieces, example.size));
}

/** All frames have the same length, so the header bytes before each frame are the same and are encoded once. */
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
  return field(1, join([textField(1, key), field(2, value)]));
}

/** Writes no field for an empty list, like TensorFlow's own writer. */
function packInt64s(values: readonly number[] | Int32Array): Message {
  return values.length === 0 ? join([]) : field(1, leaf(new Uint8Array(Array.from(values, varint).flat())));
}
