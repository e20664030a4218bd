import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { type Attempt, describeCommand, KINDS, titleOf } from "../../scripts/attack/attempt.js";
import { allAttempts, sample } from "../../scripts/attack/attempts.js";
import { findRawCharacter, judge, LIMITS, type Observation } from "../../scripts/attack/judge.js";
import { formatReport, writeReport } from "../../scripts/attack/report.js";
import { runAttempt, type Verdict } from "../../scripts/attack/runner.js";
import { temporaryFolder } from "../helpers/files.js";

/** Runs JavaScript in place of nextvlad, as an attempt. */
function attack(
  t: TestContext,
  script: string,
  attempt: Partial<Attempt> = {},
  limits = LIMITS as { readonly [K in keyof typeof LIMITS]: number },
) {
  const scratch = temporaryFolder(t);
  mkdirSync(join(scratch, "canary"));
  mkdirSync(join(scratch, "base"));
  writeFileSync(join(scratch, "canary/file"), "canary");
  const program = [process.execPath, "-e", `const fs = require("node:fs");\n${script}`];
  return runAttempt({ kind: "flag", name: "test", args: [], ...attempt }, 0, { scratch, program, limits });
}

const faultsOf = ({ problems }: Verdict): string[] => problems.map(({ fault }) => fault);

describe("an attempt", () => {
  test("passes where the command does nothing wrong", async (t) => {
    const verdict = await attack(t, `fs.writeFileSync("out/x", "x"); console.log("done", process.argv[1]); process.exitCode = 2;`, {
      args: ["harmless"],
      prepare: (place) => place.file("in", "x"),
    });
    assert.deepEqual(verdict.problems, []);
    assert.equal(verdict.seen.status, 2);
    assert.equal(Buffer.from(verdict.seen.stdout).toString(), "done harmless\n");
    assert.ok(verdict.seen.peakBytes > 20e6 && verdict.seen.peakBytes < 200e6, `${verdict.seen.peakBytes} bytes`);
  });

  test("fails where the command does not end, and is ended with all that it started", async (t) => {
    const script = `require("node:child_process").spawn("sleep", ["1000"]); for (;;);`;
    const verdict = await attack(t, script, {}, { ...LIMITS, seconds: 1 });
    assert.deepEqual(faultsOf(verdict), ["hang"]);
    assert.equal(verdict.seen.killedFor, "time");
    assert.ok(verdict.seen.seconds < 10);
  });

  test("fails where the command runs away with memory, its children's included, and is ended before it takes all", async (t) => {
    const script = `const all = []; setInterval(() => all.push(Buffer.alloc(1e7, 1)), 5);`;
    const limits = { ...LIMITS, memoryBytes: 150e6 };
    const alone = await attack(t, script, {}, limits);
    assert.deepEqual(faultsOf(alone), ["memory"]);
    assert.equal(alone.seen.killedFor, "memory");
    const child = await attack(t, script, { shell: '"$@"; true' }, limits);
    assert.deepEqual(faultsOf(child), ["memory"]);
  });

  test("fails where files outside the target change: content, kind, existence; inside it only what it keeps", async (t) => {
    const script = `
      fs.writeFileSync("../canary/file", "CANARY");
      fs.writeFileSync("home/.rc", "");
      fs.renameSync("in/old", "in/new");
      fs.rmSync("out/fifo");
      fs.writeFileSync("out/fifo", "");
      fs.writeFileSync("out/other", "");`;
    const prepare: NonNullable<Attempt["prepare"]> = (place) => {
      place.file("in/old", "");
      place.fifo("out/fifo");
    };
    const verdict = await attack(t, script, { prepare, keeps: ["out/fifo"] });
    assert.deepEqual(
      faultsOf(verdict),
      Array.from({ length: 5 }, () => "outside"),
    );
    const changes = verdict.problems.map(({ detail }) => detail.replace(/:.*/, "")).sort();
    const expected = [
      'changed "000/out/fifo"',
      'changed "canary/file"',
      'created "000/home/.rc"',
      'created "000/in/new"',
      'removed "000/in/old"',
    ];
    assert.deepEqual(changes, expected);
  });

  test("fails where the command prints raw escapes, also in its log, or a stack", async (t) => {
    const script = `console.log("a\\u001b[2J"); fs.writeFileSync("out/x.log.jsonl", "{}\\u202e"); throw new Error("unexpected");`;
    const verdict = await attack(t, script, { exits: [1] });
    assert.deepEqual(faultsOf(verdict), ["escape", "escape", "trace"]);
    assert.match(verdict.problems[0]?.detail ?? "", /^U\+001B .* in stdout$/);
    assert.match(verdict.problems[1]?.detail ?? "", /^U\+202E .* in x\.log\.jsonl$/);
  });

  test("fails where the command is killed by a signal that the attempt did not send, or ends with another exit code", async (t) => {
    assert.deepEqual(faultsOf(await attack(t, `process.kill(process.pid, "SIGSEGV"); setTimeout(() => 0, 9000)`)), ["signal"]);
    assert.deepEqual(faultsOf(await attack(t, `process.exit(134)`)), ["exit code"]);
    const sent: Partial<Attempt> = { signals: [{ name: "SIGTERM", afterMs: 0, when: /ready/ }], exits: [143] };
    const caught = `process.on("SIGTERM", () => process.exit(143)); console.log("ready"); setTimeout(() => 0, 9000)`;
    assert.deepEqual(faultsOf(await attack(t, caught, sent)), []);
    assert.deepEqual(faultsOf(await attack(t, `console.log("ready"); setTimeout(() => 0, 9000)`, sent)), ["signal"]);
  });

  test("under a limit that Node itself does not survive may end in any way", async (t) => {
    const shell = 'ulimit -v 100000; exec "$@"';
    assert.deepEqual(faultsOf(await attack(t, "", { shell, mayKillNode: true })), []);
    assert.notDeepEqual(faultsOf(await attack(t, "", { shell })), []);
    assert.deepEqual(faultsOf(await attack(t, "process.exit(77)", { shell: 'ulimit -n 500; exec "$@"', mayKillNode: true })), [
      "exit code",
    ]);
  });

  test("fails where a command waits without reporting it, or leaves a process running", async (t) => {
    const silent = await attack(t, `setTimeout(() => 0, 1500)`, { mayWait: true }, { ...LIMITS, firstOutputSeconds: 1 });
    assert.deepEqual(faultsOf(silent), ["silence"]);
    const left = await attack(t, "", { shell: 'sleep 1000 > /dev/null 2>&1 & "$@"' });
    assert.deepEqual(faultsOf(left), ["left running"]);
  });
});

test("raw characters are control characters, separators and direction marks, and bytes that are not UTF-8", () => {
  for (const text of ["plain\ttext\n", "é 汉 \u{1f600}", "\\u001b[2J"]) assert.equal(findRawCharacter(Buffer.from(text)), null, text);
  for (const code of [0, 7, 8, 0x0b, 0x0d, 0x1b, 0x7f, 0x80, 0x9b, 0x2028, 0x2029, 0x202a, 0x202e, 0x2066, 0x2069, 0x200e, 0x200f, 0x61c]) {
    const name = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    assert.match(findRawCharacter(Buffer.from(`x${String.fromCharCode(code)}`)) ?? "", new RegExp(`^${name.replace("+", "\\+")} `));
  }
  assert.equal(findRawCharacter(Buffer.from([0x9b])), "invalid UTF-8");
});

const quiet: Observation = {
  status: 0,
  seconds: 1,
  peakBytes: 1e8,
  killedFor: null,
  stdout: new Uint8Array(0),
  stderr: new Uint8Array(0),
  logs: [],
  changes: [],
  firstOutputSeconds: null,
  leftRunning: 0,
  isBelowNode: false,
};

test("a report counts what failed by kind, and shows how to repeat it, with nothing raw in it", (t) => {
  const attempt: Attempt = { kind: "list", name: "escapes", args: ["verify", "\x1b[2J"], environment: { HOME: "x y" } };
  const seen = { ...quiet, stderr: Buffer.from(`${"x".repeat(LIMITS.lineBytes + 1)}\x1b\nerror[INTERNAL]: x\n`) };
  const verdicts = [attempt, { ...attempt, name: "fine" }].map((each, i) => {
    const observed = i === 0 ? seen : quiet;
    return { attempt: each, seen: observed, problems: judge(each, observed) };
  });
  const text = formatReport(verdicts, 3);
  assert.match(text, /\| list \| 2 \| 1 \| 0 \| 0 \| 1 \| 0 \| 0 \| 1 \| 0 \| 1 \| 1\.0 s \| 100 MB \|/);
  assert.match(text, /2 attempts, 1 failed, 3 skipped/);
  assert.match(text, /list: escapes\n {2}env HOME='x y' nextvlad verify \$'\\u001b\[2J'\n/);
  assert.equal(findRawCharacter(Buffer.from(text)), null);
  const folder = temporaryFolder(t);
  writeReport(folder, verdicts);
  const [table, failures] = ["report.tsv", "failures.txt"].map((name) => readFileSync(join(folder, name), "utf8")) as [string, string];
  assert.deepEqual(
    table.split("\n").map((line) => line.split("\t").slice(0, 6).join(" ")),
    ["kind attempt verdict exit seconds MB", "list escapes failed 0 1.0 100", "list fine passed 0 1.0 100", ""],
  );
  assert.match(failures, /--- stderr\n\.{3}x+\\u001b\nerror\[INTERNAL\]: x\n/);
});

test("there are at least 400 attempts, over all kinds and commands, with unique and deterministic names", () => {
  const attempts = allAttempts(1);
  assert.ok(attempts.length >= 400, `${attempts.length}`);
  for (const kind of KINDS) assert.ok(attempts.filter((attempt) => attempt.kind === kind).length >= 10, kind);
  const commands = new Set(attempts.map(({ args }) => args[0]));
  for (const name of [
    "train",
    "eval",
    "infer",
    "export",
    "average",
    "convert",
    "verify",
    "inspect",
    "ensemble",
    "digits",
    "doctor",
    "setup",
    "version",
  ]) {
    assert.ok(commands.has(name), name);
  }
  const titles = attempts.map(titleOf);
  assert.equal(new Set(titles).size, titles.length);
  assert.deepEqual(allAttempts(1).map(describeCommand), attempts.map(describeCommand));
  const sampled = sample(attempts);
  assert.deepEqual([...new Set(sampled.map(({ kind }) => kind))], KINDS);
  assert.ok(sampled.every(({ isSlow }) => isSlow !== true));
});
