import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { quantize } from "../../src/conversion/features.js";
import { type LabeledVideo, readFeatureFile, readLabelTable } from "../../src/conversion/own-features.js";
import { temporaryFolder } from "../helpers/files.js";
import { encodeNpy } from "../helpers/npy.js";
import { needsPython } from "../helpers/python.js";
import { failsWith } from "../helpers/shards.js";

const RANGE = [-2, 2] as const;
const golden = JSON.parse(readFileSync(new URL("../../../test/golden/features/npz.json", import.meta.url), "utf8")) as readonly {
  readonly file: string;
  readonly arrays: Record<string, { readonly values: readonly number[] }>;
}[];

function writeTemporary(t: TestContext, content: Uint8Array): string {
  // No extension: the format is detected from the content.
  const file = join(temporaryFolder(t), "features");
  writeFileSync(file, content);
  return file;
}

test("reads numpy's .npz files: the array by name, or the only one; keeps bytes, quantizes floats", async (t) => {
  const [stored, compressed, single] = golden.map(({ file }) => writeTemporary(t, Buffer.from(file, "base64"))) as [string, string, string];
  const values = golden[0]?.arrays as Record<"rgb" | "audio", { values: readonly number[] }>;
  const rgb = quantize(Float32Array.from(values.rgb.values), RANGE);
  for (const file of [stored, compressed]) {
    assert.deepEqual(await readFeatureFile(file, "rgb", RANGE), {
      feature: { frames: 4, frameBytes: 6, data: rgb.bytes },
      statistics: rgb.statistics,
    });
    const audio = await readFeatureFile(file, "audio", RANGE);
    assert.deepEqual(audio.feature, { frames: 4, frameBytes: 3, data: Uint8Array.from(values.audio.values) });
    assert.equal(audio.statistics.values, 0);
  }
  assert.deepEqual((await readFeatureFile(single, "audio", RANGE)).feature.data, rgb.bytes);
  const error = await failsWith(readFeatureFile(stored, "video", RANGE), "BAD_VIDEO", { file: stored });
  assert.match(error.message, /no array named video \(found rgb, audio\)\. Name it in numpy\.savez\(file, video=\.\.\.\)/);
});

test("reads any .npy file of frames", async (t) => {
  const file = writeTemporary(t, new Uint8Array());
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
        assert.deepEqual(feature, { frames, frameBytes: size, data: data instanceof Uint8Array ? data : quantize(data, RANGE).bytes });
      },
    ),
    { numRuns: 100 },
  );
});

test("rejects other shapes and dtypes, NaN and Inf", async (t) => {
  const cases: [Buffer, RegExp][] = [
    [encodeNpy(new Uint8Array(4), [4]), /invalid shape of the rgb array \(expected \[frames, size\], found \[4\]\)/],
    [encodeNpy(new Uint8Array(4), [2, 2, 1]), /found \[2, 2, 1\]/],
    [encodeNpy(new Uint8Array(0), [2, 0]), /found \[2, 0\]/],
    [encodeNpy(new Int32Array(4), [2, 2]), /integers of more than a byte\. Save it as float32/],
    [encodeNpy(Float32Array.of(1, 2, 3, Number.NaN, 5, 6), [2, 3]), /value 0 of frame 1 of rgb is NaN or Inf \(found NaN\)/],
    [encodeNpy(Float64Array.of(1, Number.NEGATIVE_INFINITY), [1, 2]), /value 1 of frame 0 of rgb is NaN or Inf \(found -Infinity\)/],
  ];
  for (const [content, message] of cases) {
    const file = writeTemporary(t, content);
    assert.match((await failsWith(readFeatureFile(file, "rgb", RANGE), "BAD_VIDEO", { file })).message, message);
  }
  await failsWith(readFeatureFile("nowhere.npy", "rgb", RANGE), "FILE_MISSING", { file: "nowhere.npy" });
  await failsWith(readFeatureFile(writeTemporary(t, Buffer.from("text")), "rgb", RANGE), "BAD_FORMAT");
});

test("any bytes are features or a NextvladError", async (t) => {
  const file = writeTemporary(t, new Uint8Array());
  const heads = [Buffer.from("PK\x03\x04"), Buffer.from("\x93NUMPY\x01\x00", "latin1"), Buffer.alloc(0)];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 100 }), async (head, rest) => {
      writeFileSync(file, Buffer.concat([head, rest]));
      await readFeatureFile(file, "rgb", RANGE).catch((error: unknown) => assert.ok(error instanceof NextvladError, String(error)));
    }),
    { numRuns: 200 },
  );
});

test("quantizes float16 as the same numbers in float32", async (t) => {
  const header = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 3), }\n";
  // 1, -2 and 0.5.
  const values = Buffer.from(Uint16Array.of(0x3c00, 0xc000, 0x3800).buffer);
  const file = writeTemporary(
    t,
    Buffer.concat([Buffer.from("\x93NUMPY\x01\x00", "latin1"), Buffer.of(header.length, 0), Buffer.from(header), values]),
  );
  const { feature, statistics } = await readFeatureFile(file, "rgb", [-2, 2]);
  assert.deepEqual(feature, { frames: 1, frameBytes: 3, data: Uint8Array.of(191, 0, 159) });
  assert.deepEqual([statistics.min, statistics.max], [-2, 1]);
});

function table(t: TestContext, text: string | Uint8Array): string {
  const file = join(temporaryFolder(t), "labels.csv");
  writeFileSync(file, text);
  return file;
}

const withoutLines = (videos: readonly LabeledVideo[]) => videos.map(({ id, labels }) => [id, labels]);

test("reads columns in any order and case, other columns, a byte-order mark, Windows line ends, blank lines, every separator", async (t) => {
  const file = table(t, '\uFEFFNote,LABELS,Id\r\nx,3 7,a\r\n"two\r\nlines","1,2",b\r\n\r\n,0;5|6,"c, d"\r\n,,e\r\n');
  assert.deepEqual(withoutLines(await readLabelTable(file)), [
    ["a", [3, 7]],
    ["b", [1, 2]],
    ["c, d", [0, 5, 6]],
    ["e", []],
  ]);
});

const arbitraryVideo = fc.record({
  id: fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).filter((id) => id === id.trim() && !/\r/.test(id)),
  labels: fc.array(fc.nat(5000), { maxLength: 4 }),
});
const arbitraryTable = fc.uniqueArray(arbitraryVideo, { selector: ({ id }) => id, minLength: 1, maxLength: 8 });

test("reads tables that Python's csv module writes", needsPython, async (t) => {
  const tables = fc.sample(arbitraryTable, 60);
  const program = `
import csv, json, sys
for number, videos in enumerate(json.load(sys.stdin)):
    with open("%s/%d.csv" % (sys.argv[1], number), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator=("\\n", "\\r\\n")[number % 2])
        writer.writerow(["id", "labels"])
        for video in videos:
            writer.writerow([video["id"], ",".join(map(str, video["labels"]))])
`;
  const folder = temporaryFolder(t);
  const ended = spawnSync("python3", ["-c", program, folder], { input: JSON.stringify(tables), encoding: "utf8" });
  assert.equal(ended.status, 0, ended.stderr);
  for (const [number, videos] of tables.entries()) {
    const read = await readLabelTable(join(folder, `${number}.csv`));
    assert.deepEqual(
      withoutLines(read),
      videos.map(({ id, labels }) => [id, labels]),
    );
  }
});

test("any text is a label table or a NextvladError", async (t) => {
  const file = table(t, "");
  const piece = fc.constantFrom("id", "labels", ",", "\n", '"', "1", "x", " ", ";", "\r\n", "id,labels\n");
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join("")),
        fc.string({ unit: "binary" }),
      ),
      async (text) => {
        writeFileSync(file, text);
        await readLabelTable(file).catch((error: unknown) => assert.ok(error instanceof NextvladError, String(error)));
      },
    ),
    { numRuns: 400 },
  );
});

test("rejects an invalid table and names the line", async (t) => {
  const cases: [string, NextvladError["code"], RegExp][] = [
    [
      "",
      "BAD_FORMAT",
      /not a label table \(expected the columns id and labels, found an empty file\)\. Start the file with the column names/,
    ],
    ["video,label\na,1\n", "BAD_FORMAT", /found "video,label"/],
    ["id,labels\na,1\n\nb\n", "BAD_FORMAT", /line 4: the number of fields differs from the header \(expected 2, found 1\)/],
    ['id,labels\n"a,1\n', "BAD_FORMAT", /not a CSV file: Quote Not Closed/],
    ["id,labels\na,1\n,2\n", "BAD_FORMAT", /line 3: the row has no id/],
    ["id,labels\na,1\nb,2\na,3\n", "BAD_FORMAT", /video a: lines 2 and 4 have the same id/],
    [
      "id,labels\na,dog\n",
      "BAD_LABELS",
      /video a: a label in line 2 is not a class index \(expected .*found "dog"\)\. Number the classes from 0/,
    ],
    ["id,labels\na,-1\n", "BAD_LABELS", /found "-1"/],
    ["id,labels\na,1.5\n", "BAD_LABELS", /found "1\.5"/],
    ["id,labels\na,2147483648\n", "BAD_LABELS", /0 to 2147483647, found "2147483648"/],
  ];
  for (const [text, code, message] of cases) {
    const file = table(t, text);
    assert.match((await failsWith(readLabelTable(file), code, { file })).message, message);
  }
  await failsWith(readLabelTable("nowhere.csv"), "FILE_MISSING", { file: "nowhere.csv" });
});
