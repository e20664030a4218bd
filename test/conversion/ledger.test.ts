import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, statSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { convert } from "../../src/conversion/convert.js";
import { openLedger } from "../../src/conversion/ledger.js";
import { type ConversionPlan, planShards, type ShardPlanOptions } from "../../src/conversion/plan.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith, writeShards } from "../helpers/shards.js";
import { Capture } from "../helpers/terminal.js";

const OPTIONS = {
  format: "pkl",
  maxFrames: 300,
  featureNames: ["rgb", "audio"],
  dtype: undefined,
  ranges: [
    [-2, 2],
    [-2, 2],
  ],
} as const satisfies Partial<ShardPlanOptions>;

test("shards of a ledger from the first release are up to date, unless the range or dtype differs from the defaults", async (t) => {
  const folder = temporaryFolder(t);
  const { shards } = await writeShards(folder, [1, 1]);
  const out = join(folder, "out");
  await mkdir(out);
  // The origin as the first release wrote it.
  const digests = shards.map((from) => {
    const { size, mtimeMs } = statSync(from);
    const settings = { featureNames: ["rgb", "audio"], maxFrames: 300 };
    const origin = { from, files: 1, bytes: size, modified_ms: mtimeMs, settings };
    const output = `${basename(from, ".tfrecord")}.pkl`;
    writeFileSync(join(out, output), "from an earlier run");
    return [output, createHash("sha256").update(JSON.stringify(origin)).digest("hex")];
  });
  writeFileSync(join(out, "convert.json"), JSON.stringify({ format_version: 1, shards: Object.fromEntries(digests) }));
  const countPending = async (change: Partial<ShardPlanOptions>): Promise<number> =>
    (await openLedger(out, await planShards(join(folder, "*.tfrecord"), { ...OPTIONS, out, ...change }))).pending.length;
  assert.equal(await countPending({}), 0);
  for (const change of [{ dtype: "float32" as const }, { ranges: [OPTIONS.ranges[0], [-2, 3]] as const }])
    assert.equal(await countPending(change), 2);
  assert.equal(await countPending({}), 0);
});

test("outdated shards are kept until each is converted again; the list that names them is removed", async (t) => {
  const folder = temporaryFolder(t);
  await writeShards(folder, [1, 1]);
  const out = join(folder, "out");
  await mkdir(out);
  const planOf = (maxFrames: number): Promise<ConversionPlan> => planShards(join(folder, "*.tfrecord"), { ...OPTIONS, out, maxFrames });
  const first = await openLedger(out, await planOf(300));
  const outputs = first.pending.map(({ task }) => task.output);
  for (const output of outputs) writeFileSync(output, "converted with 300");
  writeFileSync(join(out, "shards.list"), "shard000.pkl\nshard001.pkl\n");
  const second = await openLedger(out, await planOf(200));
  assert.equal(second.pending.length, 2);
  await second.start(second.pending[0] as (typeof second.pending)[0]);
  assert.deepEqual(
    [...outputs, join(out, "shards.list")].map((path) => existsSync(path)),
    [false, true, false],
  );
  writeFileSync(outputs[0] as string, "converted with 200");
  // As if the run was killed here and started again with either setting.
  const pendingWith = async (maxFrames: number): Promise<string[]> =>
    (await openLedger(out, await planOf(maxFrames))).pending.map(({ task }) => task.output);
  assert.deepEqual(await pendingWith(200), [outputs[1]]);
  assert.deepEqual(await pendingWith(300), [outputs[0]]);
});

test("empty shards of an earlier run count: if all shards are empty, the conversion fails and leaves no ledger", async (t) => {
  const folder = temporaryFolder(t);
  const list = join(folder, "empty.list");
  const telemetry = await createTelemetry({ logFile: null, stderr: new Capture(false).stream });
  for (const format of ["tfrecord", "pkl"] as const) {
    const out = join(folder, format);
    await mkdir(out);
    for (const name of ["a", "b"]) writeFileSync(join(folder, `${name}.tfrecord`), "");
    writeFileSync(list, "a.tfrecord\nb.tfrecord\n");
    const plan = await planShards(list, { ...OPTIONS, out, format });
    // The state after a first run that was stopped after one shard.
    const { pending } = await openLedger(out, plan);
    writeFileSync((pending[0] as (typeof pending)[0]).task.output, format === "pkl" ? Buffer.from("80025d2e", "hex") : "");
    await failsWith(convert(plan, { out, workers: 1, signal: new AbortController().signal, telemetry }), "TOO_FEW_VIDEOS", { file: list });
    assert.deepEqual(
      ["a", "b", "convert.json", "empty.list"].map((name) => existsSync(join(out, name.includes(".") ? name : `${name}.${format}`))),
      [false, false, false, false],
    );
  }
});

test("a list from a pipe does not replace the list of another pipe", async (t) => {
  const folder = temporaryFolder(t);
  const { shards } = await writeShards(folder, [1, 1]);
  const out = join(folder, "out");
  await mkdir(out);
  writeFileSync(join(out, "shards.list"), "shard000.pkl\n");
  const planOf = async (lines: readonly string[]): Promise<ConversionPlan> => {
    writeFileSync(join(folder, "lines"), lines.map((line) => `${line}\n`).join(""));
    const pipe = openSync(join(folder, "lines"), "r");
    try {
      return await planShards(`/dev/fd/${pipe}`, { ...OPTIONS, out });
    } finally {
      closeSync(pipe);
    }
  };
  assert.equal((await planOf(shards)).listName, "shards.list");
  await failsWith(planOf(shards.slice(1)), "BAD_USAGE", { file: join(out, "shards.list") });
});
