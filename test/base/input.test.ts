import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { truncateSync, writeFileSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { openInput, openInputSync, readInput, readOnce } from "../../src/base/input.js";
import { reportWaits, setStopRequest } from "../../src/base/waiting.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

function makeFifo(folder: string): string {
  const path = join(folder, "fifo");
  execFileSync("mkfifo", [path]);
  return path;
}

describe("an input", () => {
  test("that is a pipe, a socket or a device is rejected without opening it; a missing one is reported as missing", async (t) => {
    const folder = temporaryFolder(t);
    const socket = join(folder, "socket");
    const server = createServer().listen(socket);
    t.after(() => server.close());
    await once(server, "listening");
    for (const [path, kind] of [
      [makeFifo(folder), "a pipe"] as const,
      [socket, "a socket"] as const,
      ["/dev/zero", "a character device"] as const,
    ]) {
      for (const read of [openInput, readInput, async (file: string) => openInputSync(file)]) {
        const error = await failsWith(read(path), "FILE_UNREADABLE", { file: path });
        assert.match(error.message, new RegExp(`: cannot read: it is ${kind}, not a file\\. `));
      }
    }
    await failsWith(openInput(join(folder, "none")), "FILE_MISSING");
    assert.throws(() => openInputSync(join(folder, "none")), { code: "FILE_MISSING" });
    await failsWith(readInput(folder), "FILE_UNREADABLE");
  });

  test("that is a file is read completely, in pieces or at once", async (t) => {
    const path = join(temporaryFolder(t), "file");
    const bytes = Buffer.alloc(700_001, "abc");
    writeFileSync(path, bytes);
    assert.deepEqual(await readInput(path), bytes);
    assert.deepEqual(await collect(readOnce(path)), bytes);
  });
});

describe("an input that is read once", () => {
  test("may be a pipe: the wait for a writer is reported within a second, and all data is read", async (t) => {
    const path = makeFifo(temporaryFolder(t));
    const since = performance.now();
    let writing = Promise.resolve();
    const written = Buffer.alloc(300_000, "line\n");
    const reports: string[] = [];
    const write = async (): Promise<void> => {
      const handle = await open(path, "w");
      await handle.write(written);
      await handle.close();
    };
    const report = (line: string): void => {
      reports.push(line);
      assert.ok(performance.now() - since < 1000);
      writing = write();
    };
    t.after(reportWaits(report));
    assert.deepEqual(await collect(readOnce(path)), written);
    await writing;
    assert.deepEqual(reports, [`waiting for data from ${path} (a pipe)`]);
    await failsWith(collect(readOnce(`${path}x`)), "FILE_MISSING");
  });

  test("does not block a thread in the kernel: a stop signal ends the wait, and other files can be read meanwhile", async (t) => {
    const folder = temporaryFolder(t);
    const path = makeFifo(folder);
    const controller = new AbortController();
    setStopRequest({ signal: controller.signal, exitCode: () => 130 });
    t.after(() => setStopRequest(null));
    t.after(reportWaits(() => controller.abort()));
    const reading = collect(readOnce(path));
    writeFileSync(join(folder, "other"), "other");
    assert.equal(await readFile(join(folder, "other"), "utf8"), "other");
    assert.equal((await failsWith(reading, "STOPPED")).exitCode, 130);
    assert.ok(!process.getActiveResourcesInfo().some((name) => name.startsWith("FSReq")));
  });
});

test("a file larger than the limit is rejected before it is read", async (t) => {
  const path = join(temporaryFolder(t), "large");
  writeFileSync(path, "12345");
  assert.equal((await readInput(path, path, 5)).length, 5);
  const error = await failsWith(readInput(path, path, 4), "BAD_FORMAT", { file: path });
  assert.match(error.message, /the file is too large \(expected at most 4 bytes, found 5 bytes\)/);
  truncateSync(path, 2 ** 28 + 1);
  await failsWith(readInput(path), "BAD_FORMAT", { file: path });
});
