import assert from "node:assert/strict";
import { chmodSync, cpSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { temporaryFolder } from "./helpers/files.js";
import { repository, runProgram } from "./helpers/nextvlad.js";

/** Files below a folder of the repository, by their paths in it. */
function filesIn(folder: string): string[] {
  const entries = readdirSync(join(repository, folder), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, path, name }) => relative(repository, join(parentPath ?? path, name)));
}

describe("the package", () => {
  let packed: string[];
  before(async () => {
    const ended = await runProgram("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"]);
    assert.equal(ended.exitCode, 0, ended.stderr);
    const [{ files }] = JSON.parse(ended.stdout) as [{ files: { path: string }[] }];
    packed = files.map(({ path }) => path);
  });

  test("holds what set-up and the commands need", () => {
    const needed = [
      ...["package.json", "npm-shrinkwrap.json", "README.md", "CHANGELOG.md", "LICENSE", "scripts/setup.sh", "scripts/smoke.cjs"],
      ...["native", "scripts/tensorflow", "configs", "docs"].flatMap(filesIn),
      ...filesIn("dist/src").filter((path) => !/\.(map|d\.c?ts)$/.test(path)),
      "dist/src/index.d.ts",
    ];
    assert.deepEqual(
      needed.filter((path) => !packed.includes(path)),
      [],
    );
  });

  test("holds nothing else", () => {
    const wanted =
      /^(dist\/src|native|configs|docs|scripts\/(tensorflow|train|test|infer))\/|^scripts\/(setup\.sh|reproduce-youtube8m\.sh|smoke\.cjs)$|^[^/]+$/;
    assert.deepEqual(
      packed.filter((path) => !wanted.test(path) || path.endsWith(".map")),
      [],
    );
    // Each compiled file has its source: nothing is left of files that were removed or renamed.
    const sources = new Set(filesIn("src").map((path) => path.replace(/\.c?ts$/, "")));
    const compiled = packed.filter((path) => path.startsWith("dist/src/"));
    assert.deepEqual(
      compiled.filter((path) => !sources.has(path.replace(/^dist\//, "").replace(/(\.d)?\.c?[jt]s$/, ""))),
      [],
    );
  });
});

test("an installed package names `nextvlad setup`, which runs its setup; a clone names its script", async (t) => {
  const folder = temporaryFolder(t);
  cpSync(join(repository, "dist/src"), join(folder, "dist/src"), { recursive: true });
  cpSync(join(repository, "package.json"), join(folder, "package.json"));
  symlinkSync(join(repository, "node_modules"), join(folder, "node_modules"));

  const { loadTensorflow } = (await import(pathToFileURL(join(folder, "dist/src/runtime/runtime.js")).href)) as {
    loadTensorflow: (useGpu: boolean) => Promise<unknown>;
  };
  await assert.rejects(loadTensorflow(false), { code: "NOT_SET_UP", message: /Run: nextvlad setup\.$/ });
  writeFileSync(join(folder, "tsconfig.json"), "{}");
  await assert.rejects(loadTensorflow(false), { code: "NOT_SET_UP", message: /Run: scripts\/setup\.sh\.$/ });
  rmSync(join(folder, "tsconfig.json"));

  mkdirSync(join(folder, "scripts"));
  const script = join(folder, "scripts/setup.sh");
  writeFileSync(script, '#!/usr/bin/env bash\necho "$NEXTVLAD_DEVICE $(node -p process.execPath)"\nexit 7\n');
  chmodSync(script, 0o755);
  const ended = await runProgram(process.execPath, [join(folder, "dist/src/nextvlad.cjs"), "setup", "--device", "gpu"], { cwd: "/" });
  assert.deepEqual([ended.exitCode, ended.stdout], [7, `gpu ${process.execPath}\n`]);
});
