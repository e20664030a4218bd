import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { manPage } from "../../scripts/docs/man.js";
import { repository } from "../helpers/nextvlad.js";
import { readPage } from "./pages.js";

const PAGE = join(repository, "docs/nextvlad.1");

/** Returns what a program that checks the page prints. */
function check(program: string, ...args: readonly string[]): string {
  const { stdout, stderr } = spawnSync(program, [...args, PAGE], { encoding: "utf8", env: { ...process.env, MANWIDTH: "80" } });
  return program === "man" ? stderr : stdout + stderr;
}

const isMissing = (program: string): string | false => (spawnSync(program, ["-l", "/dev/null"]).error ? `${program} is missing` : false);

describe("docs/nextvlad.1", () => {
  test("is the page that npm run docs writes", () => assert.equal(readPage("docs/nextvlad.1"), manPage()));

  test("only macros begin with a dot or an apostrophe", () => {
    const requests = manPage()
      .split("\n")
      .filter((line) => /^[.']/.test(line))
      .map((line) => line.split(" ")[0]);
    assert.deepEqual([...new Set(requests)].sort(), [".B", ".I", ".PP", ".SH", ".SS", ".TH", ".TP", ".fi", ".nf"]);
  });

  test("has no warning of man", { skip: isMissing("man") }, () => assert.equal(check("man", "--warnings", "-l"), ""));

  test("has no warning of mandoc, nor of its style", { skip: isMissing("mandoc") }, () => assert.equal(check("mandoc", "-T", "lint"), ""));
});
