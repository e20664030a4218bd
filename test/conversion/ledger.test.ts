import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, statSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { convert } from "../../src/conversion/convert.js";
import { claimShards } from "../../src/conversion/ledger.js";
import { type ConversionPlan, planShards, type ShardPlanOptions } from "../../src/conversion/plan.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { failsWith, temporaryFolder, writeShards } from "../helpers/shards.js";
import { Capture } from "../telemetry/terminal.js";

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

test("a ledger of the first release keeps its shards; the range and dtype count where they differ from the defaults", async (t) => {
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
    writeFileSync(join(out, output), "made before");
    return [output, createHash("sha256").update(JSON.stringify(origin)).digest("hex")];
  });
  writeFileSync(join(out, "convert.json"), JSON.stringify({ format_version: 1, shards: Object.fromEntries(digests) }));
  const claim = async (change: Partial<ShardPlanOptions>): Promise<number> =>
    (await claimShards(out, await planShards(join(folder, "*.tfrecord"), { ...OPTIONS, out, ...change }))).due.length;
  assert.equal(await claim({}), 0);
  for (const change of [{ dtype: "float32" as const }, { ranges: [OPTIONS.ranges[0], [-2, 3]] as const }])
    assert.equal(await claim(change), 2);
  assert.equal(await claim({}), 0);
});

test("outdated shards stay until each is made again, and the list that names them goes", async (t) => {
  const folder = temporaryFolder(t);
  await writeShards(folder, [1, 1]);
  const out = join(folder, "out");
  await mkdir(out);
  const planOf = (maxFrames: number): Promise<ConversionPlan> => planShards(join(folder, "*.tfrecord"), { ...OPTIONS, out, maxFrames });
  const first = await claimShards(out, await planOf(300));
  const outputs = first.due.map(({ task }) => task.output);
  for (const output of outputs) writeFileSync(output, "made with 300");
  writeFileSync(join(out, "shards.list"), "shard000.pkl\nshard001.pkl\n");
  const second = await claimShards(out, await planOf(200));
  assert.equal(second.due.length, 2);
  await second.begin(second.due[0] as (typeof second.due)[0]);
  assert.deepEqual(
    [...outputs, join(out, "shards.list")].map((path) => existsSync(path)),
    [false, true, false],
  );
  writeFileSync(outputs[0] as string, "made with 200");
  // As if the run was killed here and started again with either setting.
  const dueWith = async (maxFrames: number): Promise<string[]> =>
    (await claimShards(out, await planOf(maxFrames))).due.map(({ task }) => task.output);
  assert.deepEqual(await dueWith(200), [outputs[1]]);
  assert.deepEqual(await dueWith(300), [outputs[0]]);
});

test("empty shards that an earlier run made count: nothing but empty shards fails, and leaves no ledger", async (t) => {
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
    const { due } = await claimShards(out, plan);
    writeFileSync((due[0] as (typeof due)[0]).task.output, format === "pkl" ? Buffer.from("80025d2e", "hex") : "");
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
