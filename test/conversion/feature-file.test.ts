import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { readFeatureFile } from "../../src/conversion/feature-file.js";
import { quantise } from "../../src/conversion/quantise.js";
import { encodeNpy } from "../helpers/npy.js";
import { failsWith, temporaryFolder } from "../helpers/shards.js";

const RANGE = [-2, 2] as const;
const golden = JSON.parse(readFileSync(new URL("../../../test/golden/features/npz.json", import.meta.url), "utf8")) as readonly {
  readonly file: string;
  readonly arrays: Record<string, { readonly values: readonly number[] }>;
}[];

function written(t: TestContext, content: Uint8Array): string {
  // No extension: the format is detected from the content.
  const file = join(temporaryFolder(t), "features");
  writeFileSync(file, content);
  return file;
}

test("numpy's own .npz files: by name, or the only array; bytes stay, floats are quantised", async (t) => {
  const [stored, compressed, lone] = golden.map(({ file }) => written(t, Buffer.from(file, "base64"))) as [string, string, string];
  const values = golden[0]?.arrays as Record<"rgb" | "audio", { values: readonly number[] }>;
  const rgb = quantise(Float32Array.from(values.rgb.values), RANGE);
  for (const file of [stored, compressed]) {
    assert.deepEqual(await readFeatureFile(file, "rgb", RANGE), {
      feature: { frames: 4, frameBytes: 6, data: rgb.bytes },
      statistics: rgb.statistics,
    });
    const audio = await readFeatureFile(file, "audio", RANGE);
    assert.deepEqual(audio.feature, { frames: 4, frameBytes: 3, data: Uint8Array.from(values.audio.values) });
    assert.equal(audio.statistics.values, 0);
  }
  assert.deepEqual((await readFeatureFile(lone, "audio", RANGE)).feature.data, rgb.bytes);
  const error = await failsWith(readFeatureFile(stored, "video", RANGE), "BAD_VIDEO", { file: stored });
  assert.match(error.message, /no array named video \(found rgb, audio\)\. Name it in numpy\.savez\(file, video=\.\.\.\)/);
});

test("any .npy file of frames", async (t) => {
  const file = written(t, new Uint8Array());
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 6 }),
      fc.integer({ min: 1, max: 6 }),
      fc.constantFrom("u1", "f4", "f8"),
      fc.infiniteStream(fc.float({ noNaN: true, noDefaultInfinity: true })),
      async (frames, size, dtype, stream) => {
        const values = Array.from({ length: frames * size }, () => stream.next().value as number);
        const data = dtype === "u1" ? Uint8Array.from(values) : dtype === "f4" ? Float32Array.from(values) : Float64Array.from(values);
        writeFileSync(file, encodeNpy(data, [frames, size]));
        const { feature } = await readFeatureFile(file, "rgb", RANGE);
        assert.deepEqual(feature, { frames, frameBytes: size, data: data instanceof Uint8Array ? data : quantise(data, RANGE).bytes });
      },
    ),
    { numRuns: 100 },
  );
});

test("another shape or type, and values that are no numbers", async (t) => {
  const cases: [Buffer, RegExp][] = [
    [encodeNpy(new Uint8Array(4), [4]), /the rgb array has another shape \(expected \[frames, size\], found \[4\]\)/],
    [encodeNpy(new Uint8Array(4), [2, 2, 1]), /found \[2, 2, 1\]/],
    [encodeNpy(new Uint8Array(0), [2, 0]), /found \[2, 0\]/],
    [encodeNpy(new Int32Array(4), [2, 2]), /integers wider than a byte\. Save it as float32/],
    [encodeNpy(Float32Array.of(1, 2, 3, Number.NaN, 5, 6), [2, 3]), /value 0 of frame 1 of rgb is not a finite number \(found NaN\)/],
    [
      encodeNpy(Float64Array.of(1, Number.NEGATIVE_INFINITY), [1, 2]),
      /value 1 of frame 0 of rgb is not a finite number \(found -Infinity\)/,
    ],
  ];
  for (const [content, message] of cases) {
    const file = written(t, content);
    assert.match((await failsWith(readFeatureFile(file, "rgb", RANGE), "BAD_VIDEO", { file })).message, message);
  }
  await failsWith(readFeatureFile("nowhere.npy", "rgb", RANGE), "FILE_MISSING", { file: "nowhere.npy" });
  await failsWith(readFeatureFile(written(t, Buffer.from("text")), "rgb", RANGE), "BAD_FORMAT");
});

test("any bytes are features or a NextvladError", async (t) => {
  const file = written(t, new Uint8Array());
  const heads = [Buffer.from("PK\x03\x04"), Buffer.from("\x93NUMPY\x01\x00", "latin1"), Buffer.alloc(0)];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 100 }), async (head, rest) => {
      writeFileSync(file, Buffer.concat([head, rest]));
      await readFeatureFile(file, "rgb", RANGE).catch((error: unknown) => assert.ok(error instanceof NextvladError, String(error)));
    }),
    { numRuns: 200 },
  );
});

test("float16 is quantised as the same numbers in float32", async (t) => {
  const header = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 3), }\n";
  // 1, -2 and 0.5.
  const values = Buffer.from(Uint16Array.of(0x3c00, 0xc000, 0x3800).buffer);
  const file = written(
    t,
    Buffer.concat([Buffer.from("\x93NUMPY\x01\x00", "latin1"), Buffer.of(header.length, 0), Buffer.from(header), values]),
  );
  const { feature, statistics } = await readFeatureFile(file, "rgb", [-2, 2]);
  assert.deepEqual(feature, { frames: 1, frameBytes: 3, data: Uint8Array.of(191, 0, 159) });
  assert.deepEqual([statistics.least, statistics.most], [-2, 1]);
});
