import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createRandom } from "../../src/base/random.js";
import { floatTypeOf } from "../../src/data/float-bytes.js";
import { readTfRecordFile } from "../../src/formats/containers/tfrecord.js";
import { parseSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { goldenData } from "../helpers/shards.js";

/** Returns normally distributed numbers (Box-Muller). */
function normals(seed: number, count: number, deviation: number): Float32Array {
  const random = createRandom(seed, "digits");
  const uniform = (): number => (1 + random.below(2 ** 24)) / 2 ** 24;
  return Float32Array.from({ length: count }, () => deviation * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/** Converts to float16: normal numbers only, truncated to eleven bits of significand. */
function toFloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer);
  return Uint16Array.from(bits, (bit) => {
    const exponent = ((bit >>> 23) & 0xff) - 112;
    return exponent <= 0 ? 0 : ((bit >>> 31) << 15) | (exponent << 10) | ((bit >>> 13) & 0x3ff);
  });
}

const bytesOf = (values: Float32Array | Uint16Array): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

describe("frames of floats as bytes are detected", () => {
  test("float32 and float16 of any usual scale, also after ReLU with half of them 0", () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.constantFrom(0.05, 0.5, 1, 5), fc.boolean(), (seed, deviation, relu) => {
        const values = normals(seed, 512, deviation).map((value) => (relu ? Math.max(0, value) : value));
        assert.equal(floatTypeOf(bytesOf(values)), "float32");
        assert.equal(floatTypeOf(bytesOf(toFloat16(values))), "float16");
      }),
      { numRuns: 100 },
    );
  });

  test("float32 converted from float16, whose low bytes are 0", () => {
    const values = normals(1, 512, 1);
    const bits = new Uint32Array(values.buffer).map((bit) => bit & 0xffffe000);
    assert.equal(floatTypeOf(bytesOf(new Float32Array(bits.buffer))), "float32");
  });
});

describe("quantized features are not mistaken for floats", () => {
  test("YouTube-8M's shards, of any number of frames", async () => {
    for await (const { data, file, record, byteOffset } of readTfRecordFile(goldenData("train0000.tfrecord"))) {
      for (const maxFrames of [1, 300]) {
        const { frameLists } = parseSequenceExample(data, { file, record, byteOffset }, { listNames: ["rgb", "audio"], maxFrames });
        for (const list of frameLists.values()) assert.equal(floatTypeOf(list.data), null);
      }
    }
  });

  test("bytes of any mean and spread, constant ones, all zeros, and too few for a decision", () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.nat(255), fc.constantFrom(1, 10, 40, 100), (seed, mean, deviation) => {
        const bytes = Uint8Array.from(normals(seed, 1024, deviation), (value) => Math.min(255, Math.max(0, Math.round(mean + value))));
        assert.equal(floatTypeOf(bytes), null);
      }),
      { numRuns: 300 },
    );
    for (let byte = 0; byte < 256; byte++) assert.equal(floatTypeOf(new Uint8Array(1024).fill(byte)), null);
    assert.equal(floatTypeOf(bytesOf(normals(1, 8, 1))), null);
  });

  test("text", () => {
    assert.equal(floatTypeOf(readFileSync("LICENSE")), null);
  });
});
