import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { repository } from "../helpers/nextvlad.js";

/** Returns the names that the first group of `pattern` matches in the files of a folder. */
function namesIn(folder: string, extension: string, pattern: RegExp): readonly string[] {
  const files = readdirSync(join(repository, folder), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(extension));
  const names = files.flatMap((name) =>
    Array.from(readFileSync(join(repository, folder, name), "utf8").matchAll(pattern), (match) => match[1] as string),
  );
  return [...new Set(names)].sort();
}

test("src/ runs exactly the ops that native/ and the binding register, including those that need a GPU", () => {
  const ofBinding = namesIn("scripts/tensorflow", ".cc", /"(Nextvlad\w+)"/g);
  const registered = [...namesIn("native", ".cc", /(?:Define|Register<\w+>)\(\s*"(\w+)"/g), ...ofBinding].sort();
  assert.deepEqual(namesIn("src", ".ts", /"(Nextvlad(?!Error|Warning)\w+)"/g), registered);
  assert.ok(registered.length >= 20, registered.join(" "));
});
