import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RawArray } from "../../src/checkpoints/weight-source.js";

const TYPES: Readonly<Record<string, number>> = { i8: 3, f4: 5, f8: 6 };

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(Math.floor(value / 0x80))];
}

/** Encodes a variable as Paddle does. An independent implementation, which a test compares with Paddle's own bytes. */
export function encodeVariable({ dtype, shape, bytes }: Pick<RawArray, "dtype" | "shape" | "bytes">): Buffer {
  const descriptor = [0x08, TYPES[dtype] as number, ...shape.flatMap((side) => [0x10, ...varint(side)])];
  const head = Buffer.alloc(20);
  head.writeInt32LE(descriptor.length, 16);
  return Buffer.concat([head, Buffer.from(descriptor), bytes]);
}

/** Writes a directory with a file for each array. */
export function writeVariables(folder: string, arrays: Iterable<Pick<RawArray, "name" | "dtype" | "shape" | "bytes">>): void {
  mkdirSync(folder, { recursive: true });
  for (const array of arrays) writeFileSync(join(folder, array.name), encodeVariable(array));
}
