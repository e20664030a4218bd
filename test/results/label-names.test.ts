import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type LabelNames, readLabelNames } from "../../src/results/label-names.js";
import { failsWith } from "../helpers/shards.js";

const folder = mkdtempSync(join(tmpdir(), "names-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function read(name: string, content: string, numClasses: number | null): Promise<LabelNames> {
  const path = join(folder, name);
  writeFileSync(path, content);
  return readLabelNames(path, numClasses);
}

const firstNames = (names: LabelNames): (string | null)[] => [0, 1, 2].map((c) => names.nameOf(c));

/** The columns of YouTube-8M's file, with commas, quotes and line feeds in the texts. */
const VOCABULARY = `Index,TrainVideoCount,KnowledgeGraphId,Name,WikiUrl,Vertical1,Vertical2,Vertical3,WikiDescription
0,788288,/m/03bt1gh,Game,https://en.wikipedia.org/wiki/Game,Games,,,"A game is structured form of play, ""usually"" for enjoyment.
It has rules."
2,539945,/m/01mw1,"Car, old",https://en.wikipedia.org/wiki/Car,Autos & Vehicles,,,
1,415890,/m/07k1x,,,,,,
`;

test("YouTube-8M's vocabulary names each class by its index", async () => {
  const names = await read("vocabulary.csv", VOCABULARY, 4);
  assert.deepEqual(firstNames(names), ["Game", null, "Car, old"]);
  assert.equal(names.countNamed(4), 2);
});

test("AudioSet's columns are supported, and the extension of a vocabulary need not be .csv", async () => {
  const names = await read(
    "audioset.txt",
    'index,mid,display_name\r\n0,/m/09x0r,"Speech"\r\n1,/m/05zppz,"Male speech, man speaking"\r\n',
    null,
  );
  assert.deepEqual(firstNames(names), ["Speech", "Male speech, man speaking", null]);
});

test("a plain list names the classes from 0", async () => {
  assert.deepEqual(firstNames(await read("names.txt", '\uFEFFGame\r\n"Car", old\nFood\n', 3)), ["Game", '"Car", old', "Food"]);
});

test("names that do not match the model are rejected", async () => {
  await failsWith(read("a.csv", VOCABULARY, 2), "BAD_LABELS", { line: 4, expected: "0 to 1", found: '"2"' });
  const long = { found: `"${"x".repeat(30)}...${"x".repeat(10)}" (90 characters)` };
  await failsWith(read("a.csv", VOCABULARY.replace("\n2,", `\n${"x".repeat(90)},`), null), "BAD_LABELS", long);
  await failsWith(read("a.csv", `${VOCABULARY}2,1,x,Twice,,,,,\n`, null), "BAD_LABELS", { line: 6 });
  await failsWith(read("a.csv", VOCABULARY.replace("\n2,", "\n-2,"), null), "BAD_LABELS", { line: 4 });
  await failsWith(read("a.csv", "VideoId,LabelConfidencePairs\n", 2), "BAD_LABELS", { line: 1, expected: "the columns Index and Name" });
  await failsWith(read("a.txt", "Game\nCar\n", 3), "BAD_LABELS", { expected: 3, found: 2 });
  await failsWith(read("a.txt", "Game\n\nCar\n", 3), "BAD_LABELS", { line: 2 });
  await failsWith(read("a.txt", "", 3), "BAD_LABELS");
});
