import { concat, doubleField, field, floatField, type Message, rawBytes, stringField, varintField } from "./writer.js";

// TensorBoard's events: tensorflow/core/util/event.proto and core/framework/summary.proto.

/** The distribution of some numbers. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  readonly count: number;
  readonly sum: number;
  readonly sumOfSquares: number;
  /** The upper limit of each bucket, ascending; the first bucket begins at `min`. */
  readonly limits: Float64Array;
  /** The number of values in each bucket. */
  readonly counts: Float64Array;
}

/** DataType.DT_STRING */
const STRING = 7;
/** SessionLog.SessionStatus.START */
const START = 1;

/** The content of a file's first event. */
export function fileVersion(): Message {
  return stringField(3, "brain.Event:2");
}

/** The content of an event that starts a process at the event's step: TensorBoard drops what earlier files contain from this step on. */
export function sessionStart(): Message {
  return field(7, varintField(1, START));
}

/** The content of an event with values. */
export function summary(values: readonly Message[]): Message {
  return field(5, concat(values.map((value) => field(1, value))));
}

/** A point of a curve, as float32. */
export function scalarValue(tag: string, value: number): Message {
  return concat([stringField(1, tag), floatField(2, value)]);
}

export function histogramValue(tag: string, { min, max, count, sum, sumOfSquares, limits, counts }: Histogram): Message {
  const numbers = [min, max, count, sum, sumOfSquares].map((value, i) => doubleField(i + 1, value));
  return concat([stringField(1, tag), field(5, concat([...numbers, packed(6, limits), packed(7, counts)]))]);
}

/** A text in Markdown. */
export function textValue(tag: string, text: string): Message {
  const metadata = field(1, stringField(1, "text"));
  const tensor = concat([varintField(1, STRING), field(2, rawBytes(new Uint8Array(0))), stringField(8, text)]);
  return concat([stringField(1, tag), field(8, tensor), field(9, metadata)]);
}

/** Encodes an Event. `seconds`: the time since 1970. */
export function encodeEvent({ seconds, step }: { readonly seconds: number; readonly step: number }, content: Message): Uint8Array {
  return Buffer.concat(concat([doubleField(1, seconds), varintField(2, step), content]).pieces);
}

/** Encodes a list of float64. */
function packed(number: number, values: Float64Array): Message {
  return field(number, rawBytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)));
}
