import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { checkSnapshot } from "../../src/checkpoints/snapshot.js";
import { floatsOf } from "../../src/checkpoints/weight-source.js";
import { ALONE } from "../../src/distributed/world.js";
import { countTensors } from "../../src/runtime/constants.js";
import { WeightAverage } from "../../src/training/weight-average.js";
import { copyOf, randomStore } from "../helpers/blocks.js";
import { loadForTests } from "../helpers/device.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { prepareRun } from "../helpers/runs.js";
import { failsWith } from "../helpers/shards.js";
import { trainInProcess } from "../helpers/training.js";

const DECAY = 0.75;

/** Reads all arrays of a file of weights. */
async function readArrays(path: string): Promise<Map<string, Float32Array>> {
  const source = await openWeights(path, { optimizer: false });
  const arrays = new Map<string, Float32Array>();
  for await (const array of source.read(new Set(source.entries.keys()))) arrays.set(array.name, floatsOf(array, path).slice());
  await source.close();
  return arrays;
}

/** Asserts that float32 averages are those of the formula in double precision: each step rounds three times, at most 6e-8 of the value each. */
function assertAverage(found: Float32Array, weights: readonly Float32Array[], name: string): void {
  const [first, ...later] = weights as [Float32Array, ...Float32Array[]];
  for (const [i, value] of found.entries()) {
    const expected = later.reduce((ema, w) => DECAY * ema + (1 - DECAY) * (w[i] as number), first[i] as number);
    const size = Math.max(...weights.map((w) => Math.abs(w[i] as number)));
    assert.ok(Math.abs(value - expected) <= 2e-7 * later.length * size, `${name}[${i}] is ${value}, expected ${expected}`);
  }
}

test("averages trained parameters and moving statistics as the formula does, and leaves the weights and eigen_param as they are", async () => {
  await loadForTests();
  const before = countTensors();
  const stores = [randomStore(), randomStore(), randomStore()];
  const store = copyOf(stores[0] as (typeof stores)[0]);
  const average = new WeightAverage(store, DECAY, ALONE);
  average.start();
  for (const later of stores.slice(1)) {
    for (const { name, download } of later.arrays()) store.variable(name).upload(download());
    average.update();
  }
  for (const [i, { name, download }] of average.store.arrays().entries()) {
    const values = stores.map((each) => (each.arrays()[i] as { download(): Float32Array }).download());
    if (name === "eigen_param") assert.deepEqual(download(), values[0]);
    else assertAverage(download(), values, name);
    assert.deepEqual(store.variable(name).download(), values[2]);
  }
  assert.equal(average.initialShare(2), DECAY ** 2);
  for (const each of [...stores, store, average.store]) each.dispose();
  assert.equal(countTensors(), before);
});

describe("training with TRAIN.ema_decay", () => {
  let directory: string;
  let config: string;
  let [straight, plain] = ["", ""];
  const settings = [`TRAIN.ema_decay=${DECAY}`];
  const at = (...names: string[]): string => join(directory, ...names);
  const bytesOf = (saveDir: string, snapshot: string, ...names: string[]): Buffer[] =>
    names.map((name) => readFileSync(at(saveDir, snapshot, `${name}.safetensors`)));

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "weight-average-"));
    config = await prepareRun(directory);
    // A snapshot after each step, 6 per epoch.
    const every = { saveInterval: { steps: 1 }, validInterval: { epochs: 1 } };
    straight = (await trainInProcess(config, at("straight"), { ...every, settings })).log;
    plain = (await trainInProcess(config, at("plain"), { ...every })).log;
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test("writes the averages of the weights after each step next to them, and does not change the weights", async () => {
    const names = readdirSync(at("straight")).filter((name) => /^(NEXTVLAD|best)/.test(name));
    assert.equal(names.length, 13);
    for (const name of names) {
      const [ours, theirs] = ["straight", "plain"].map((run) => Buffer.concat(bytesOf(run, name, "weights", "optimizer")));
      // The best snapshot is chosen by the averages.
      if (name !== "best") assert.ok(ours?.equals(theirs as Buffer), name);
      assert.ok("ema.safetensors" in ((await checkSnapshot(at("straight", name))).files ?? {}));
      assert.ok(!readdirSync(at("plain", name)).includes("ema.safetensors"));
    }
    const steps = ["step2", "step3", "step4", "step5", "epoch0"];
    const weights = await Promise.all(steps.map((name) => readArrays(at("straight", `NEXTVLAD_${name}`))));
    const start = await readArrays(at("straight", "NEXTVLAD_step1", "ema.safetensors"));
    const found = await readArrays(at("straight", "NEXTVLAD_epoch0", "ema.safetensors"));
    assert.deepEqual([...found.keys()], [...(weights[0]?.keys() ?? [])]);
    for (const [name, values] of found) {
      const all = [start, ...weights].map((arrays) => arrays.get(name) as Float32Array);
      if (name !== "eigen_param") assertAverage(values, all, name);
    }
  });

  test("an interrupted run writes the same averages, and a resumed run cannot begin or end them", async () => {
    cpSync(at("straight", "NEXTVLAD_step8"), at("parts", "NEXTVLAD_step8"), { recursive: true });
    const resume = at("parts", "NEXTVLAD_step8");
    await trainInProcess(config, at("parts"), { settings, resume, validInterval: { epochs: 1 } });
    assert.deepEqual(readdirSync(at("parts")).filter((name) => /^NEXTVLAD/.test(name)).length, 2);
    const [ours, theirs] = ["parts", "straight"].map((name) => bytesOf(name, "NEXTVLAD_epoch1", "weights", "optimizer", "ema"));
    for (const [i, bytes] of (theirs as Buffer[]).entries()) assert.ok(bytes.equals(ours?.[i] as Buffer), `file ${i}`);
    const key = "TRAIN.ema_decay";
    await failsWith(trainInProcess(config, at("ended"), { resume }), "BAD_CONFIG", { key, expected: String(DECAY), found: "null" });
    const plain = { settings, resume: at("plain", "NEXTVLAD_step8") };
    await failsWith(trainInProcess(config, at("begun"), plain), "BAD_CONFIG", { key, expected: "null", found: String(DECAY) });
  });

  test("validation logs both metrics, and the averages decide which snapshot is the best; eval, average and export read them", async () => {
    const linesOf = (log: string): string[] => [...log.matchAll(/\[VALID\] .*/g)].map(([line]) => line);
    const gaps: string[] = [];
    assert.equal(linesOf(straight).length, 2);
    for (const [i, line] of linesOf(straight).entries()) {
      const [, weights, share, gap] = /^(.*); EMA weights \((\d+) % the initial weights\): loss = .* GAP = ([\d.]+)/.exec(line) ?? [];
      assert.equal(weights, linesOf(plain)[i]);
      assert.equal(Number(share), [18, 3][i]);
      gaps.push(gap as string);
    }
    const { best } = await checkSnapshot(at("straight", "best"));
    assert.equal(best?.gap.toFixed(4), gaps.toSorted().at(-1));
    const ema = at("straight", "best", "ema.safetensors");
    const { stdout, stderr, exitCode } = await runNextvlad(["eval", "--weights", ema, "--save-dir", at("eval")]);
    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, new RegExp(`gap:${best?.gap.toFixed(4)}\n`));
    for (const [command, ...args] of [
      ["average", ema, at("straight", "NEXTVLAD_epoch0", "ema.safetensors"), "--out", at("average.safetensors")],
      ["export", "--weights", ema, "--format", "npz", "--out", at("ema.npz")],
    ] as const) {
      const run = await runNextvlad([command, ...args]);
      assert.equal(run.exitCode, 0, run.stderr);
    }
    assert.deepEqual((await readArrays(at("ema.npz"))).get("logits_clf_bias"), (await readArrays(ema)).get("logits_clf_bias"));
  });
});
