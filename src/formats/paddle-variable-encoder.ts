import { NextvladError } from "../base/errors.js";
import { integerField, join } from "./wire-writer.js";

/** An array that can be written as a Paddle variable, row-major. */
export interface PaddleVariable {
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly data: Float32Array | BigInt64Array;
}

/** Paddle's VarType.Type (framework.proto). */
const FP32 = 5;
const INT64 = 3;

/**
 * Encodes a variable as Paddle's save_vars writes it into a file of its own (framework/lod_tensor.cc, SerializeToStream, version 0): no LoD levels, a
 * TensorDesc, the values. All little-endian, without padding. The values are a view of the array's memory. Throws BAD_FORMAT if the data do not fit the shape.
 */
export function encodePaddleVariable({ shape, data }: PaddleVariable): readonly Uint8Array[] {
  const size = shape.reduce((product, side) => product * side, 1);
  if (data.length !== size) {
    const expected = `${size} values for [${shape.join(", ")}]`;
    throw new NextvladError("BAD_FORMAT", "the variable's data do not fit its shape", { expected, found: data.length });
  }
  const type = data instanceof Float32Array ? FP32 : INT64;
  const descriptor = join([integerField(1, type), ...shape.map((side) => integerField(2, side))]);
  // uint32 LoDTensor version, uint64 LoD levels, uint32 Tensor version: all zero; then the descriptor's length.
  const head = Buffer.alloc(20);
  head.writeInt32LE(descriptor.size, 16);
  return [Buffer.concat([head, ...descriptor.pieces]), new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}
