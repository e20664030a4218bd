import { NextvladError } from "../../base/errors.js";
import { concat, field, floatField, type Message, rawBytes, stringField, varintField } from "./writer.js";

/** A constant of a graph, row-major. Its values are not copied. */
export interface OnnxInitializer {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly data: Float32Array | BigInt64Array;
}

/** An input or output of a graph; a string in `shape` names a dynamic dimension. */
export interface OnnxValue {
  readonly name: string;
  readonly type: "float32" | "uint8" | "int64";
  readonly shape: readonly (number | string)[];
  readonly description: string;
}

/** A node attribute; `int` and `float` give the type of a single number. */
export type OnnxAttribute = { readonly int: number } | { readonly float: number } | { readonly ints: readonly number[] };

/** One operation. The name of its output is also the name of the node. */
export interface OnnxNode {
  readonly operation: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

/** A model with one graph; its nodes are in topological order. */
export interface OnnxModel {
  readonly irVersion: number;
  readonly opset: number;
  readonly producer: { readonly name: string; readonly version: string };
  readonly description: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly graphName: string;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly initializers: readonly OnnxInitializer[];
  readonly nodes: readonly OnnxNode[];
}

/** TensorProto.DataType. */
export const ELEMENT_TYPES = { float32: 1, uint8: 2, int64: 7 } as const;
/** AttributeProto.AttributeType. */
const ATTRIBUTE_TYPES = { float: 1, int: 2, ints: 7 } as const;
/** Maximum size of a Protocol Buffers message. */
const MAX_BYTES = 2 ** 31 - 1;

/**
 * Encodes a model as a ModelProto (onnx.proto, IR version 10 and later), in pieces; the pieces of the initializers are views of their data.
 * Throws BAD_FORMAT if the model has 2 GiB or more.
 */
export function encodeOnnx(model: OnnxModel): readonly Uint8Array[] {
  const message = concat([
    varintField(1, model.irVersion),
    stringField(2, model.producer.name),
    stringField(3, model.producer.version),
    stringField(6, model.description),
    field(7, encodeGraph(model)),
    field(8, varintField(2, model.opset)),
    ...Object.entries(model.metadata).map(([key, value]) => field(14, concat([stringField(1, key), stringField(2, value)]))),
  ]);
  if (message.size > MAX_BYTES) {
    const remedy = "use safetensors, which has no such limit";
    throw new NextvladError("BAD_FORMAT", "the model is too large for ONNX", { expected: "less than 2 GiB", found: message.size, remedy });
  }
  return message.pieces;
}

function encodeGraph({ nodes, graphName, initializers, inputs, outputs }: OnnxModel): Message {
  return concat([
    ...nodes.map((node) => field(1, encodeNode(node))),
    stringField(2, graphName),
    ...initializers.map((initializer) => field(5, encodeInitializer(initializer))),
    ...inputs.map((value) => field(11, encodeValue(value))),
    ...outputs.map((value) => field(12, encodeValue(value))),
  ]);
}

function encodeNode({ operation, inputs, output, attributes }: OnnxNode): Message {
  return concat([
    ...inputs.map((name) => stringField(1, name)),
    stringField(2, output),
    stringField(3, output),
    stringField(4, operation),
    ...Object.entries(attributes).map(([name, value]) => field(5, concat([stringField(1, name), encodeAttribute(value)]))),
  ]);
}

function encodeAttribute(value: OnnxAttribute): Message {
  if ("float" in value) return concat([floatField(2, value.float), varintField(20, ATTRIBUTE_TYPES.float)]);
  if ("int" in value) return concat([varintField(3, value.int), varintField(20, ATTRIBUTE_TYPES.int)]);
  return concat([...value.ints.map((int) => varintField(8, int)), varintField(20, ATTRIBUTE_TYPES.ints)]);
}

function encodeInitializer({ name, shape, data }: OnnxInitializer): Message {
  return concat([
    ...shape.map((size) => varintField(1, size)),
    varintField(2, data instanceof Float32Array ? ELEMENT_TYPES.float32 : ELEMENT_TYPES.int64),
    stringField(8, name),
    field(9, rawBytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))),
  ]);
}

function encodeValue({ name, type, shape, description }: OnnxValue): Message {
  const dimensions = shape.map((size) => field(1, typeof size === "number" ? varintField(1, size) : stringField(2, size)));
  const tensor = concat([varintField(1, ELEMENT_TYPES[type]), field(2, concat(dimensions))]);
  return concat([stringField(1, name), field(2, field(1, tensor)), stringField(3, description)]);
}
