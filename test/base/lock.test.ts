import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { confirmLock, LOCK_NAME, lockDirectory } from "../../src/base/lock.js";
import { identifySelf, isRunning, startTimeMs } from "../../src/base/processes.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, runProgram } from "../helpers/nextvlad.js";
import { failsWith } from "../helpers/shards.js";

const program = (folder: string, then: string): string[] => [
  "--input-type=module",
  "-e",
  `import { lockDirectory } from ${JSON.stringify(compiled("base/lock.js"))};
   const lock = await lockDirectory(${JSON.stringify(folder)}); ${then}`,
];

describe("a process", () => {
  test("is identified by its start time, and not running once it has ended", async () => {
    const self = identifySelf();
    assert.equal(isRunning(self), true);
    assert.equal(isRunning({ ...self, startTicks: self.startTicks + 1 }), false, "another process with the same ID");
    assert.equal(isRunning({ ...self, boot: "another" }), null);
    assert.equal(isRunning({ ...self, host: "elsewhere" }), null);
    assert.equal(isRunning({ ...self, namespace: "pid:[1]" }), null);
    const ageMs = Date.now() - (startTimeMs(process.pid) as number);
    // Both clocks have a resolution of 0.01 s, and the boot time of 1 s.
    assert.ok(Math.abs(ageMs - process.uptime() * 1000) < 2500, `started ${ageMs} ms ago`);
    assert.equal(startTimeMs(2 ** 30), null);
  });

  test("that is a zombie is not running", async () => {
    // The shell's child exits after the shell has been replaced by a program that does not reap children.
    const child = spawn("bash", ["-c", "sleep 0.5 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = await once(child.stdout, "data");
    const pid = Number(String(line));
    try {
      for (const end = Date.now() + 5000; !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8")) && Date.now() < end; ) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.equal(startTimeMs(pid), null);
    } finally {
      child.kill("SIGKILL");
    }
  });
});

describe("a directory's lock", () => {
  test("excludes other processes until it is released, and leaves no files", async (t) => {
    const folder = temporaryFolder(t);
    const lock = await lockDirectory(folder);
    assert.equal(lock.staleHolder, null);
    await confirmLock(folder, lock.text);
    const error = await failsWith(lockDirectory(folder), "SAVE_DIR_TAKEN");
    assert.match(error.message, new RegExp(`another run is writing to this directory: process ${process.pid} on `));
    await lock.release();
    assert.deepEqual(readdirSync(folder), []);
    await (await lockDirectory(folder)).release();
  });

  test("of a killed process is replaced", async (t) => {
    const folder = temporaryFolder(t);
    const killed = await runProgram(process.execPath, program(folder, 'process.kill(process.pid, "SIGKILL");'));
    assert.equal(killed.signal, "SIGKILL");
    assert.deepEqual(readdirSync(folder), [LOCK_NAME]);
    const lock = await lockDirectory(folder);
    assert.match(lock.staleHolder ?? "", /^process \d+ on .*, since 20/);
    await lock.release();
  });

  test("of another machine is valid while it has heartbeats", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, LOCK_NAME);
    writeFileSync(path, JSON.stringify({ ...identifySelf(), host: "elsewhere", since: "2026-01-01T00:00:00Z" }));
    const error = await failsWith(lockDirectory(folder), "SAVE_DIR_TAKEN");
    assert.match(error.message, /on elsewhere, since 2026-01-01T00:00:00Z; last heartbeat \d+ s ago \(considered dead after 180 s\)/);
    const long = new Date(statSync(path).mtimeMs - 200_000);
    utimesSync(path, long, long);
    const lock = await lockDirectory(folder);
    assert.match(lock.staleHolder ?? "", /on elsewhere/);
    await lock.release();
  });

  test("in another format is replaced", async (t) => {
    const folder = temporaryFolder(t);
    for (const text of ["", "{", "null", '{"pid":1}', "\0"]) {
      writeFileSync(join(folder, LOCK_NAME), text);
      const lock = await lockDirectory(folder);
      assert.equal(lock.staleHolder, "an unreadable lock");
      await lock.release();
    }
  });

  test("that is a link, a pipe or a directory is an error, and its target is unchanged", async (t) => {
    for (const make of [
      (path: string) => symlinkSync(`${path}.target`, path),
      (path: string) => execFileSync("mkfifo", [path]),
      (path: string) => mkdirSync(path),
    ]) {
      const folder = temporaryFolder(t);
      const path = join(folder, LOCK_NAME);
      writeFileSync(`${path}.target`, "kept");
      make(path);
      const error = await failsWith(lockDirectory(folder), "FILE_UNWRITABLE", { file: path });
      assert.match(error.message, /the directory's lock is not a regular file \(found a (symbolic link|pipe|directory)\)/);
      assert.equal(readFileSync(`${path}.target`, "utf8"), "kept");
      assert.equal(readdirSync(folder).length, 2);
    }
  });

  test("is acquired by exactly one of several processes at once, even if it is stale", async (t) => {
    const folder = temporaryFolder(t);
    const stale = { ...identifySelf(), startTicks: 1 };
    writeFileSync(join(folder, LOCK_NAME), JSON.stringify(stale));
    // The lock is held until the other processes have exited: on a busy machine they start seconds apart.
    const release = join(temporaryFolder(t), "release");
    const isReleased = `(await import("node:fs")).existsSync(${JSON.stringify(release)})`;
    const hold = `console.log("got it"); while (!${isReleased}) await new Promise((resolve) => setTimeout(resolve, 20));`;
    const runs = Array.from({ length: 6 }, () => runProgram(process.execPath, program(folder, hold)));
    let count = 0;
    const others = new Promise<void>((resolve) => {
      for (const run of runs) void run.then(() => (++count === 5 ? resolve() : undefined));
    });
    await Promise.race([others, delay(20_000, undefined, { ref: false })]);
    writeFileSync(release, "");
    const ended = await Promise.all(runs);
    assert.equal(ended.filter(({ stdout }) => stdout.includes("got it")).length, 1);
    assert.equal(ended.filter(({ stderr }) => stderr.includes("SAVE_DIR_TAKEN")).length, 5);
  });

  test("that is stale is removed by one process at a time, and a process that died while removing it does not block others", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, LOCK_NAME);
    const stale = JSON.stringify({ ...identifySelf(), startTicks: 1 });
    const removal = `${path}.${createHash("sha256").update(stale).digest("hex").slice(0, 12)}`;
    writeFileSync(path, stale);
    writeFileSync(removal, JSON.stringify(identifySelf()));
    let isLocked = false;
    const locking = lockDirectory(folder).finally(() => {
      isLocked = true;
    });
    await delay(300);
    assert.equal(isLocked, false);
    assert.equal(readFileSync(path, "utf8"), stale);
    writeFileSync(removal, stale);
    await (await locking).release();
    assert.deepEqual(readdirSync(folder), []);
  });

  test("is confirmed only while it exists and is ours", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, LOCK_NAME);
    const lock = await lockDirectory(folder);
    renameSync(path, `${path}2`);
    const gone = await failsWith(confirmLock(folder, lock.text), "FILE_UNWRITABLE", { file: folder });
    assert.match(gone.message, /the directory was removed or its disk unmounted since the run started/);
    writeFileSync(path, lock.text.replace(/"key":"../, '"key":"zz'));
    await failsWith(confirmLock(folder, lock.text), "SAVE_DIR_TAKEN");
    await lock.release();
    assert.equal(existsSync(path), true, "the lock of another process stays");
    rmSync(folder, { recursive: true });
    await failsWith(confirmLock(folder, lock.text), "FILE_UNWRITABLE");
    await failsWith(lockDirectory(folder), "FILE_UNWRITABLE");
  });
});
