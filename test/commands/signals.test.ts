import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryFolder } from "../helpers/files.js";
import { compiled } from "../helpers/nextvlad.js";

/** A script that runs until it is stopped, then takes `afterMs` to save. `busy`: it computes without a pause meanwhile, as a kernel does. */
const worker = (afterMs: number, busy: boolean): string => `
  import { watchSignals } from ${JSON.stringify(compiled("commands/signals.js"))};
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const watch = watchSignals((message) => console.log(message));
  console.log("ready");
  while (!watch.signal.aborted) await pause(5);
  await pause(${busy ? 700 : 0});
  console.log("computing");
  if (${busy}) for (const end = Date.now() + ${afterMs}; Date.now() < end; );
  else await pause(${afterMs});
  console.log("saved");
  process.exit(watch.exitCode());
`;

interface Worker {
  readonly child: ChildProcess;
  /** Resolves once the worker has printed `words`. */
  said(words: string): Promise<void>;
  output(): string;
}

function start(afterMs: number, busy = false): Worker {
  const child = spawn(process.execPath, ["--input-type=module", "-e", worker(afterMs, busy)], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 60_000,
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const said = async (words: string): Promise<void> => {
    while (!output.includes(words)) await once(child.stdout, "data");
  };
  return { child, said, output: () => output };
}

describe("a signal", { concurrency: true }, () => {
  for (const [name, exitCode] of [["SIGINT", 130] as const, ["SIGTERM", 143] as const]) {
    test(`${name} saves the work and sets the exit code`, async () => {
      const { child, said, output } = start(50);
      await said("ready");
      child.kill(name);
      assert.deepEqual(await once(child, "close"), [exitCode, null]);
      assert.match(output(), new RegExp(`${name}: finishing the step and saving; repeat the signal to exit immediately`));
      assert.match(output(), /saved/);
    });

    test(`${name} again ends the process at once, in the midst of computing too`, async () => {
      const { child, said, output } = start(50_000, true);
      await said("ready");
      child.kill(name);
      await said("computing");
      child.kill(name);
      assert.deepEqual(await once(child, "close"), [null, name]);
      assert.doesNotMatch(output(), /saved/);
    });
  }

  test("a Ctrl-C that npm forwards does not count as a second signal", async () => {
    const { child, said, output } = start(1200);
    await said("ready");
    child.kill("SIGINT");
    await said("finishing");
    await sleep(20);
    child.kill("SIGINT");
    assert.deepEqual(await once(child, "close"), [130, null]);
    assert.match(output(), /saved/);
  });
});

test("a signal after the work has ended has no effect", async (t) => {
  const pipe = join(temporaryFolder(t), "pipe");
  execFileSync("mkfifo", [pipe]);
  // A pending read delays the exit for a moment.
  const script = `
    import { readFile } from "node:fs/promises";
    import { leave } from ${JSON.stringify(compiled("commands/process.js"))};
    readFile(process.argv[1]);
    console.log("done");
    await leave(7);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, pipe], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  await once(child.stdout, "data");
  await sleep(100);
  for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) child.kill(name);
  await sleep(100);
  closeSync(openSync(pipe, "r+"));
  assert.deepEqual(await ended, [7, null]);
});

test("a slow reader of a pipe gets all output before the process exits", async () => {
  const script = `
    import { leave } from ${JSON.stringify(compiled("commands/process.js"))};
    process.stdout.write("o".repeat(1_000_000));
    process.stderr.write("e".repeat(1_000_000));
    await leave(3);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "pipe"] });
  await sleep(300);
  const lengths = [child.stdout, child.stderr].map(async (stream) => {
    let length = 0;
    for await (const piece of stream) length += piece.length;
    return length;
  });
  assert.deepEqual(await once(child, "exit"), [3, null]);
  assert.deepEqual(await Promise.all(lengths), [1_000_000, 1_000_000]);
});

test("a reader that does not read blocks the exit only until a signal", async () => {
  const script = `
    import { leave } from ${JSON.stringify(compiled("commands/process.js"))};
    process.stderr.write("e".repeat(1_000_000));
    console.log("done");
    await leave(4);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(child, "exit");
  await once(child.stdout, "data");
  await sleep(200);
  assert.equal(child.exitCode, null);
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [4, null]);
});
