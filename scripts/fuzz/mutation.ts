import type { Random } from "../../src/base/random.js";

/** Maximum length of a repeated block; inputs are cut at twice this length. */
const MAX_BYTES = 1 << 16;
const MAX_STEPS = 4;
const EXTREMES = [0n, 1n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn, 1n << 53n, (1n << 63n) - 1n, ~0n];
const NUMBERS = [
  "0",
  "-1",
  "1e400",
  "255",
  "65536",
  "2147483648",
  "4294967295",
  "9007199254740993",
  "18446744073709551615",
  "9".repeat(400),
];

type Step = (bytes: Buffer, random: Random, others: readonly Uint8Array[]) => Uint8Array;

/** Mutations of an input; `others` are inputs to take parts from. */
const STEPS: readonly Step[] = [
  function flipBit(bytes, random) {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    return bytes;
  },
  function changeByte(bytes, random) {
    bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  },
  function truncate(bytes, random) {
    return bytes.subarray(0, random.below(bytes.length));
  },
  /** Writes an integer of 1, 2, 4 or 8 bytes, in either byte order, that is extreme or close to the input's length. */
  function corruptLength(bytes, random) {
    const size = 1 << random.below(4);
    if (bytes.length < size) return bytes;
    const near = BigInt(bytes.length - 4 + random.below(9));
    const value = BigInt.asUintN(8 * size, random.below(4) === 0 ? near : (EXTREMES[random.below(EXTREMES.length)] as bigint));
    const field = Buffer.alloc(8);
    field.writeBigUInt64LE(value);
    const ordered = random.below(2) === 0 ? field.subarray(0, size) : field.subarray(0, size).reverse();
    bytes.set(ordered, random.below(bytes.length - size + 1));
    return bytes;
  },
  /** Replaces a decimal number in the text by an extreme one. */
  function corruptDigits(bytes, random) {
    const runs = [...bytes.toString("latin1").matchAll(/\d+/g)];
    const run = runs[random.below(Math.max(1, runs.length))];
    if (run === undefined) return bytes;
    const number = Buffer.from(NUMBERS[random.below(NUMBERS.length)] as string);
    return Buffer.concat([bytes.subarray(0, run.index), number, bytes.subarray(run.index + run[0].length)]);
  },
  function deleteBlock(bytes, random) {
    const [from, to] = block(bytes, random);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
  },
  function duplicateBlock(bytes, random) {
    const [from, to] = block(bytes, random);
    const at = random.below(bytes.length);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(from, to), bytes.subarray(at)]);
  },
  /** Repeats a short block up to `MAX_BYTES` bytes, to reveal deep nesting and superlinear run time. */
  function repeatBlock(bytes, random) {
    if (random.below(16) !== 0) return bytes;
    const from = random.below(bytes.length);
    const to = Math.min(bytes.length, from + 1 + random.below(16));
    const times = Math.ceil(random.below(MAX_BYTES) / (to - from));
    return Buffer.concat([bytes.subarray(0, to), Buffer.alloc(times * (to - from), bytes.subarray(from, to)), bytes.subarray(to)]);
  },
  function insertBytes(bytes, random) {
    const at = random.below(bytes.length);
    const fresh = Buffer.from(Array.from({ length: 1 + random.below(8) }, () => random.below(256)));
    return Buffer.concat([bytes.subarray(0, at), fresh, bytes.subarray(at)]);
  },
  /** Joins the start of the input with the end of another. */
  function splice(bytes, random, others) {
    const other = others[random.below(others.length)] as Uint8Array;
    return Buffer.concat([bytes.subarray(0, random.below(bytes.length)), other.subarray(random.below(other.length + 1))]);
  },
  /** Inserts a block of another input, or overwrites bytes with it. */
  function graft(bytes, random, others) {
    const other = Buffer.from(others[random.below(others.length)] as Uint8Array);
    if (other.length === 0) return bytes;
    const [from, to] = block(other, random);
    const at = random.below(bytes.length);
    return Buffer.concat([bytes.subarray(0, at), other.subarray(from, to), bytes.subarray(at + random.below(2) * (to - from))]);
  },
];

function block(bytes: Uint8Array, random: Random): readonly [from: number, to: number] {
  const from = random.below(bytes.length);
  const longest = Math.min(bytes.length - from, 1 << (1 + random.below(10)));
  return [from, from + 1 + random.below(longest)];
}

/** Returns a mutated input made from `parent` and parts of `others`. Deterministic for the given random generator. */
export function mutate(parent: Uint8Array, random: Random, others: readonly Uint8Array[]): Uint8Array {
  let bytes = Buffer.from(parent);
  for (let left = 1 + random.below(MAX_STEPS); left > 0 && bytes.length > 0; left--) {
    const step = STEPS[random.below(STEPS.length)] as Step;
    bytes = Buffer.from(step(bytes, random, others)).subarray(0, 2 * MAX_BYTES);
  }
  return bytes;
}
