import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { IncidentList } from "../../src/telemetry/incident-list.js";
import { isWorthTelling } from "../../src/telemetry/sparing.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { scratch } from "../commands/nextvlad.js";
import { Capture } from "./terminal.js";

test("of many alike, the first 20 are told, then each that doubles their number", () => {
  const told = Array.from({ length: 1000 }, (_, i) => i + 1).filter(isWorthTelling);
  assert.deepEqual(told, [...Array.from({ length: 20 }, (_, i) => i + 1), 40, 80, 160, 320, 640]);
});

test("a list has each incident once, goes on where an earlier one stopped, and gives way to another run's", async (context) => {
  const path = join(scratch(context), "list.json");
  const { log } = await createTelemetry({ logFile: null, stderr: new Capture(false).stream });
  const written = (): unknown => JSON.parse(readFileSync(path, "utf8"));
  const first = new IncidentList<{ at: number }>(path, log);
  await first.begin(false);
  for (const at of [1, 2, 1]) first.add({ at });
  await first.write();
  assert.deepEqual(written(), [{ at: 1 }, { at: 2 }]);
  const resumed = new IncidentList<{ at: number }>(path, log);
  await resumed.begin(true);
  for (const at of [2, 3]) resumed.add({ at });
  await resumed.write();
  assert.deepEqual(written(), [{ at: 1 }, { at: 2 }, { at: 3 }]);
  writeFileSync(path, '[{"at": 1');
  const damaged = new IncidentList<{ at: number }>(path, log);
  await damaged.begin(true);
  assert.equal(damaged.size, 0);
  const other = new IncidentList<{ at: number }>(path, log);
  await other.begin(false);
  await other.write();
  assert.equal(existsSync(path), false);
});

test("a list that is full says so once; one that cannot be written is a warning, and no end", async (context) => {
  const path = join(scratch(context), "list.json");
  const stderr = new Capture(false);
  const { log } = await createTelemetry({ logFile: null, stderr: stderr.stream });
  mkdirSync(path);
  const list = new IncidentList<{ at: number }>(path, log);
  for (let at = 0; at < 10_050; at++) list.add({ at });
  assert.equal(list.size, 10_000);
  assert.equal(stderr.text.match(/lists 10000 already, and takes no more/g)?.length, 1);
  await list.write();
  assert.match(
    stderr.text,
    /WARN: the list could not be written: \S+list\.json: cannot replace it: it is not a regular file \(found a directory\)/,
  );
  // What failed is not taken for written.
  rmdirSync(path);
  await list.write();
  assert.equal(JSON.parse(readFileSync(path, "utf8")).length, 10_000);
});

test("a list is written now and then where there is no hurry, and whole when that is asked for, in the midst of another write too", async (context) => {
  const path = join(scratch(context), "list.json");
  const { log } = await createTelemetry({ logFile: null, stderr: new Capture(false).stream });
  const list = new IncidentList<{ at: number }>(path, log);
  const written = (): number => JSON.parse(readFileSync(path, "utf8")).length;
  for (let at = 0; at < 100; at++) {
    list.add({ at });
    await list.writeSparingly();
  }
  // In far less than the interval.
  assert.equal(written(), 1);
  const writes = [list.write()];
  for (let at = 100; at < 120; at++) {
    list.add({ at });
    writes.push(list.write());
  }
  await Promise.all(writes);
  assert.equal(written(), 120);
});
