import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { type LabelledVideo, readLabelTable } from "../../src/conversion/label-table.js";
import { failsWith, temporaryFolder } from "../helpers/shards.js";

function table(t: TestContext, text: string | Uint8Array): string {
  const file = join(temporaryFolder(t), "labels.csv");
  writeFileSync(file, text);
  return file;
}

const withoutLines = (videos: readonly LabelledVideo[]) => videos.map(({ id, labels }) => [id, labels]);

test("columns in any order and case, other columns, a byte-order mark, Windows line ends, blank lines, every separator", async (t) => {
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

test("what Python's csv module writes is read", {
  skip: spawnSync("python3", ["--version"]).status !== 0 && "there is no python3",
}, async (t) => {
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

test("any text is a table or a NextvladError", async (t) => {
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
    ["", "BAD_FORMAT", /not a label table \(expected the columns id and labels, found an empty file\)\. Begin the file with a line/],
    ["video,label\na,1\n", "BAD_FORMAT", /found "video,label"/],
    ["id,labels\na,1\n\nb\n", "BAD_FORMAT", /line 4: the row has another number of fields than the header \(expected 2, found 1\)/],
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
