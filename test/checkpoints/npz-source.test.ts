import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openNpz } from "../../src/checkpoints/npz-source.js";
import { floatsOf } from "../../src/checkpoints/weight-source.js";
import { encodeZip } from "../../src/formats/containers/zip.js";
import { temporaryFolder } from "../helpers/files.js";

test("float16 arrays are read as float32", async (t) => {
  const golden = readFileSync(new URL("../../../test/golden/formats/npy.json", import.meta.url), "utf8");
  const half = (JSON.parse(golden) as { name: string; file: string; values: string[] }[]).find(({ name }) => name === "float16");
  assert.ok(half !== undefined);
  const path = join(temporaryFolder(t), "weights.npz");
  await writeFile(path, encodeZip([{ name: "w.npy", parts: [Buffer.from(half.file, "base64")] }]));
  const source = await openNpz(path, () => true);
  try {
    assert.equal(source.entries.get("w")?.dtype, "f4");
    for await (const array of source.read(new Set(["w"]))) {
      assert.deepEqual(
        [...floatsOf(array, path)],
        half.values.map((value) => Number(value.replace("nan", "NaN").replace("inf", "Infinity"))),
      );
    }
  } finally {
    await source.close();
  }
});
