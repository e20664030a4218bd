import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { findingsDirectory, readInputs, seedDirectory } from "../../scripts/fuzz/corpus.js";
import { judge } from "../../scripts/fuzz/judgement.js";
import { loadTarget, PARSERS } from "../../scripts/fuzz/target.js";
import { watch } from "../../scripts/fuzz/watch.js";
import { temporaryFolder } from "../helpers/files.js";

const folder = mkdtempSync(join(tmpdir(), "fuzz-"));
before(() => {
  process.env.NEXTVLAD_FUZZ_FOLDER = folder;
});
after(() => {
  // The findings of a failed test stay; its message says where.
  if (readInputs(findingsDirectory()).length === 0) rmSync(folder, { recursive: true, force: true });
});

function run(script: string, args: readonly string[]) {
  return spawnSync(process.execPath, [`dist/scripts/fuzz/${script}.js`, ...args], { encoding: "utf8" });
}

test("every parser has a corpus with at least one accepted input, and there are no other corpora", async (t) => {
  assert.deepEqual(readdirSync("scripts/fuzz/corpus").sort(), [...PARSERS].sort());
  const file = join(temporaryFolder(t), "input");
  for (const parser of PARSERS) {
    const target = await loadTarget(parser);
    const outcomes: string[] = [];
    for (const bytes of readInputs(seedDirectory(parser))) {
      const { outcome, finding } = await judge(target, bytes, file);
      assert.equal(finding, null, parser);
      outcomes.push(outcome);
    }
    assert.ok(outcomes.includes("accepted"), parser);
  }
});

test("an error other than NextvladError is a finding, and so is an input that takes a second", async (t) => {
  const file = join(temporaryFolder(t), "input");
  const failed = await judge({ readers: [() => JSON.parse("{")] }, new Uint8Array(1), file);
  assert.match(failed.finding ?? "", /^SyntaxError/);
  const wait = (): void => {
    const before = process.cpuUsage();
    for (let spent = before; spent.user + spent.system < 1.1e6 || spent === before; ) spent = process.cpuUsage(before);
  };
  const slow = await judge({ readers: [wait] }, new Uint8Array(1), file);
  assert.match(slow.finding ?? "", /^it took \d{4} ms$/);
});

test("an input that ends the process is a finding, and the next input runs in a new process", async (t) => {
  const script = join(temporaryFolder(t), "child.mjs");
  writeFileSync(
    script,
    `import { writeFileSync } from "node:fs";
    const { from, work, numberFile, inputFile } = JSON.parse(process.argv[2]);
    const report = (next, done) => process.send({ next, outcomes: {}, slowestMs: 0, peakBytes: 0, openFiles: 0, findings: [], coverage: null, done });
    if (from > 3) {
      report(work.to, true);
      process.disconnect();
    } else {
      report(2, false);
      writeFileSync(numberFile, "3");
      writeFileSync(inputFile, "fatal");
      setTimeout(() => process.kill(process.pid, "SIGABRT"), 100);
    }`,
  );
  const { findings, inputs } = await watch(script, { parser: "npy", seed: 1, from: 0, work: { kind: "random", to: 10 } });
  const [finding, ...others] = findings;
  assert.deepEqual([finding?.number, finding?.what, others.length, inputs], [3, "the process ended by SIGABRT", 0, 10]);
  assert.equal(readFileSync(finding?.path as string, "utf8"), "fatal");
  rmSync(finding?.path as string);
});

test("200 mutations per parser give no findings and are deterministic", { timeout: 120_000 }, () => {
  const { status, stdout, stderr } = run("mutate", ["--inputs", String(200 * PARSERS.length)]);
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, new RegExp(`^${200 * PARSERS.length} inputs, 0 findings`, "m"));
  const counts = (table: string): string[] => table.split("\n").map((line) => line.split(" | ").slice(0, 4).join());
  const again = run("mutate", ["--inputs", "200", "npy"]).stdout;
  assert.equal(
    counts(again)[2],
    counts(stdout).find((line) => line.startsWith("| npy,")),
  );
});

test("the guided fuzzer reaches code paths that the corpus does not", { timeout: 120_000 }, () => {
  const { status, stdout, stderr } = run("fuzz", ["paddle-variable", "--seconds", "2"]);
  assert.equal(status, 0, stdout + stderr);
  const [, inputs, , , , , findings, paths, saved] = (stdout.split("\n")[2] as string).split(" | ").map((cell) => cell.replace(/ \|$/, ""));
  assert.equal(findings, "0");
  assert.ok(Number(inputs) > 100 && Number(paths) > 100, stdout);
  assert.ok(Number(saved) > readInputs(seedDirectory("paddle-variable")).length, stdout);
});
