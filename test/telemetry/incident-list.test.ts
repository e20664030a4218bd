import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { IncidentList, shouldLog } from "../../src/telemetry/incident-list.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { temporaryFolder } from "../helpers/files.js";
import { Capture } from "../helpers/terminal.js";

test("of many events, the first 20 are logged, then each that doubles their number", () => {
  const logged = Array.from({ length: 1000 }, (_, i) => i + 1).filter(shouldLog);
  assert.deepEqual(logged, [...Array.from({ length: 20 }, (_, i) => i + 1), 40, 80, 160, 320, 640]);
});

test("a list has no duplicates; a resumed run extends it, and another run removes it", async (context) => {
  const path = join(temporaryFolder(context), "list.json");
  const { log } = await createTelemetry({ logFile: null, stderr: new Capture(false).stream });
  const written = (): unknown => JSON.parse(readFileSync(path, "utf8"));
  const first = new IncidentList<{ at: number }>(path, log);
  await first.start(false);
  for (const at of [1, 2, 1]) first.add({ at });
  await first.write();
  assert.deepEqual(written(), [{ at: 1 }, { at: 2 }]);
  const resumed = new IncidentList<{ at: number }>(path, log);
  await resumed.start(true);
  for (const at of [2, 3]) resumed.add({ at });
  await resumed.write();
  assert.deepEqual(written(), [{ at: 1 }, { at: 2 }, { at: 3 }]);
  writeFileSync(path, '[{"at": 1');
  const corrupt = new IncidentList<{ at: number }>(path, log);
  await corrupt.start(true);
  assert.equal(corrupt.size, 0);
  const other = new IncidentList<{ at: number }>(path, log);
  await other.start(false);
  await other.write();
  assert.equal(existsSync(path), false);
});

test("a full list warns once; a failed write is a warning, and the next write retries", async (context) => {
  const path = join(temporaryFolder(context), "list.json");
  const stderr = new Capture(false);
  const { log } = await createTelemetry({ logFile: null, stderr: stderr.stream });
  mkdirSync(path);
  const list = new IncidentList<{ at: number }>(path, log);
  for (let at = 0; at < 10_050; at++) list.add({ at });
  assert.equal(list.size, 10_000);
  assert.equal(stderr.text.match(/is full: it lists the first 10000/g)?.length, 1);
  await list.write();
  assert.match(
    stderr.text,
    /WARN: cannot write the list: \S+list\.json: cannot replace it: it is not a regular file \(found a directory\)/,
  );
  rmdirSync(path);
  await list.write();
  assert.equal(JSON.parse(readFileSync(path, "utf8")).length, 10_000);
});

test("writeAtIntervals writes every few seconds; write always writes, also during another write", async (context) => {
  const path = join(temporaryFolder(context), "list.json");
  const { log } = await createTelemetry({ logFile: null, stderr: new Capture(false).stream });
  const list = new IncidentList<{ at: number }>(path, log);
  const written = (): number => JSON.parse(readFileSync(path, "utf8")).length;
  for (let at = 0; at < 100; at++) {
    list.add({ at });
    await list.writeAtIntervals();
  }
  // All within one interval.
  assert.equal(written(), 1);
  const writes = [list.write()];
  for (let at = 100; at < 120; at++) {
    list.add({ at });
    writes.push(list.write());
  }
  await Promise.all(writes);
  assert.equal(written(), 120);
});
