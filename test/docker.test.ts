import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { repository } from "./helpers/nextvlad.js";

/** Returns the lines of a file in the repository, without slashes at their ends. */
const linesOf = (name: string): string[] => readFileSync(join(repository, name), "utf8").trim().split("\n");

test("build outputs do not enter the context of docker build", () => {
  const ignored = new Set(linesOf(".dockerignore"));
  const outputs = linesOf(".gitignore").filter((line) => line !== "isolate-*.log");
  assert.ok(outputs.length > 5);
  for (const line of [...outputs, ".git"]) assert.ok(ignored.has(line.replaceAll(/^\/|\/$/g, "")), line);
});
