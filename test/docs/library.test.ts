import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readShard } from "../../src/index.js";
import { repository, runNextvlad, runProgram } from "../helpers/nextvlad.js";
import { CLASSES, prepareRun } from "../helpers/runs.js";
import { codeBlocks } from "./pages.js";
import { runBlock } from "./shell.js";

const SHARD = "data/digits/validate0000.tfrecord";

/** An empty folder with the package, installed from its tarball, and the files that the example reads. */
let folder: string;
const [example, ...more] = codeBlocks("docs/library.md").filter(({ language }) => language === "js");

async function runIn(cwd: string, file: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runProgram(file, args, { cwd });
  assert.equal(exitCode, 0, stdout + stderr);
  return stdout;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "nextvlad-app-"));
  const installed = join(folder, "node_modules/nextvlad");
  mkdirSync(installed, { recursive: true });
  const tarball = await runIn(repository, "npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder);
  await runIn(folder, "tar", "xzf", tarball.trim(), "-C", installed, "--strip-components", "1");
  // What npm and setup install.
  for (const name of ["node_modules", ".native"]) symlinkSync(join(repository, name), join(installed, name));
  symlinkSync(join(repository, "node_modules/@types"), join(folder, "node_modules/@types"));

  mkdirSync(join(folder, "data/digits"), { recursive: true });
  const config = await prepareRun(join(folder, "data/digits"), { trainVideos: 32, validateVideos: 10 });
  const trained = await runNextvlad(["train", "--config", config, "--save-dir", join(folder, "data/checkpoints"), "--epoch", "1"]);
  assert.equal(trained.exitCode, 0, trained.stderr);
  renameSync(join(folder, "data/digits/validate0.tfrecord"), join(folder, SHARD));
});
after(() => rmSync(folder, { recursive: true, force: true }));

test("the example runs from the packed tarball in an empty folder", async () => {
  assert.ok(example !== undefined && more.length === 0);
  writeFileSync(join(folder, "example.mjs"), example.code);
  const printed = await runIn(folder, process.execPath, "example.mjs");
  const [classes, ...lines] = printed.split("\n");
  assert.equal(classes, `${CLASSES} classes`);
  const ids: string[] = [];
  for await (const { id } of readShard(join(folder, SHARD))) ids.push(id);
  assert.equal(ids.length, 5);
  for (const [i, id] of ids.entries()) assert.match(lines[i] ?? "", new RegExp(`^${id}( \\d: [01]\\.\\d{3}){3}$`));
  assert.equal(lines[ids.length], `${CLASSES} probabilities`);
  assert.match(lines.slice(ids.length + 1).join(" "), /^\{\s+hitAtOne: [\d.]+,\s+perr: [\d.]+,\s+gap: [\d.]+,\s+map: [\d.]+\s+\} $/);
});

test("the declarations of the packed tarball are complete, and the types are those of the example", async () => {
  const use = `${example?.code}
export const names: readonly (string | null)[] | null = classifier.classNames;
// @ts-expect-error: unknown option
await loadClassifier("weights", { useGPU: true });
// @ts-expect-error: features are bytes
classifier.classify([{ frames: 1, rgb: new Float32Array(1) }]);
`;
  writeFileSync(join(folder, "use.mts"), use);
  const options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--module", "nodenext", "--target", "es2023", "--types", "node"];
  await runIn(folder, process.execPath, join(repository, "node_modules/typescript/bin/tsc"), ...options, "use.mts");
});

test("the commands on the page exist", async () => {
  for (const { code } of codeBlocks("docs/library.md").filter(({ language }) => language === "sh")) await runBlock(code, folder);
});
