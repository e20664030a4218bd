import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { awaitListeners } from "../../src/distributed/listeners.js";
import { World } from "../../src/distributed/world.js";
import { freePort } from "../helpers/ports.js";
import { failsWith } from "../helpers/shards.js";

/** Listens at a port of the loopback interface until the test ends; returns its address. */
async function listen(t: TestContext, port = 0): Promise<string> {
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `127.0.0.1:${(server.address() as { readonly port: number }).port}`;
}

test("addresses at which nothing listens, and unknown hosts, are returned after the limit", async (t) => {
  const [here, nowhere] = [await listen(t), `127.0.0.1:${await freePort()}`];
  const sinceMs = performance.now();
  assert.deepEqual(await awaitListeners([nowhere, here, "host.invalid:1"], 400), [nowhere, "host.invalid:1"]);
  const tookMs = performance.now() - sinceMs;
  // A slow resolver may take longer than an attempt.
  assert.ok(tookMs >= 390 && tookMs < 10_000, `${tookMs} ms`);
});

test("a process that starts late is awaited, and no longer than it takes", async (t) => {
  const port = await freePort();
  const sinceMs = performance.now();
  const waiting = awaitListeners([`127.0.0.1:${port}`], 60_000);
  await setTimeout(500);
  const startedMs = performance.now();
  await listen(t, port);
  assert.deepEqual(await waiting, []);
  assert.ok(startedMs - sinceMs >= 490 && performance.now() - startedMs < 5000);
});

test("ranks that do not start in time are named, at most eight of them", async (t) => {
  const missing = await Promise.all(Array.from({ length: 10 }, freePort));
  const addresses = ["127.0.0.1:1", await listen(t), ...missing.map((port) => `127.0.0.1:${port}`)];
  const named = (error: Error): readonly number[] => Array.from(error.message.matchAll(/rank (\d+) \(/g), ([, rank]) => Number(rank));
  const ofThree = await failsWith(new World({ addresses: addresses.slice(0, 3), rank: 0 }, 0.3).connect({}), "RANK_FAILED");
  assert.match(
    ofThree.message,
    new RegExp(`^no connection within 0\\.3 s to rank 2 \\(127\\.0\\.0\\.1:${missing[0]}\\)\\. See the output`),
  );
  const ofAll = await failsWith(new World({ addresses, rank: 0 }, 0.3).connect({}), "RANK_FAILED");
  assert.deepEqual(named(ofAll), [2, 3, 4, 5, 6, 7, 8, 9]);
  assert.match(ofAll.message, / and 2 more\./);
});
