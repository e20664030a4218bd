import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { gatherHostArrays } from "../../src/checkpoints/weight-source.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { temporaryFolder } from "../helpers/files.js";
import { runNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { learnableVideo, prepareRun, readLog } from "../helpers/runs.js";

const lossesIn = (saveDir: string): readonly number[] =>
  readLog(saveDir).flatMap(({ tensors, loss }) => (tensors === undefined ? [] : [loss as number]));

/** Returns a snapshot's weights, moving statistics and moments. */
async function arraysOf(snapshot: string): Promise<ReadonlyMap<string, Float32Array>> {
  const source = await openWeights(snapshot, { optimizer: true });
  const wanted = Array.from(source.entries.keys(), (name) => ({ name }));
  const arrays = await gatherHostArrays(source, wanted);
  await source.close();
  return new Map(arrays.map(({ name, data }) => [name, data as Float32Array]));
}

describe("--no-sync-bn", () => {
  for (const [model, shares, flags] of [
    ["NEXTVLAD", [6, 5, 5], []],
    ["NETVLAD", [8, 8], ["--accumulate", "2"]],
  ] as const) {
    const ranks = shares.length;
    test(`a step of ${model} on ${ranks} ranks is that of ${ranks} runs of one share each with averaged gradients`, async (t) => {
      const folder = temporaryFolder(t);
      const config = await prepareRun(folder, { trainVideos: 2 });
      const videos = Array.from({ length: 16 }, (_, number) => learnableVideo(number));
      const settings = ["TRAIN.epoch=1", "TRAIN.shuffle_buffer=1", "TRAIN.l2_penalty=0", "MODEL.drop_rate=0"];
      /** Returns the arguments of a run whose only step is on these videos, in their order. */
      const argsOf = async (name: string, batch: typeof videos): Promise<readonly string[]> => {
        await writeShard(join(folder, `${name}.tfrecord`), batch);
        const set = [...settings, `TRAIN.filelist=${join(folder, `${name}.tfrecord`)}`].flatMap((setting) => ["--set", setting]);
        const size = ["--batch-size", String(batch.length)];
        const output = ["--save-dir", join(folder, name), "--valid-interval", "0", "--log-interval", "1", "--threads", "1"];
        return ["train", "--config", config, "--model-name", model, ...set, ...size, ...output];
      };
      const resultOf = async (name: string) => ({
        loss: lossesIn(join(folder, name))[0] as number,
        arrays: await arraysOf(join(folder, name, `${model}_epoch0`)),
      });

      const divided = await spawnNextvlad([...(await argsOf("divided", videos)), "--devices", String(ranks), "--no-sync-bn", ...flags]);
      assert.equal(divided.exitCode, 0, divided.stderr);
      const found = await resultOf("divided");
      let first = 0;
      const alone: Awaited<ReturnType<typeof resultOf>>[] = [];
      for (const [rank, size] of shares.entries()) {
        const { exitCode, stderr } = await runNextvlad(await argsOf(`share${rank}`, videos.slice(first, first + size)));
        assert.equal(exitCode, 0, stderr);
        alone.push(await resultOf(`share${rank}`));
        first += size;
      }

      const average = (pick: (result: (typeof alone)[number]) => number): number =>
        alone.reduce((sum, result, rank) => sum + ((shares[rank] as number) / videos.length) * pick(result), 0);
      assert.ok(Math.abs(found.loss / average(({ loss }) => loss) - 1) < 1e-6, `loss ${found.loss}`);
      let compared = 0;
      for (const [name, values] of found.arrays) {
        // After one step, the first moment is a tenth of the gradient.
        const isGradient = name.endsWith("_moment1_0");
        if (!isGradient && !/\.w_[12]$/.test(name)) continue;
        const expected = values.map((_, i) =>
          isGradient ? average(({ arrays }) => arrays.get(name)?.[i] as number) : (alone[0]?.arrays.get(name)?.[i] as number),
        );
        const difference = Math.hypot(...values.map((value, i) => value - (expected[i] as number)));
        // Sums in another order: 3e-6 of a gradient's norm at most, and 5e-8 of a value that is zero but for rounding.
        assert.ok(difference <= 2e-5 * Math.hypot(...expected) + 2e-7, `${name}: ${difference} of ${Math.hypot(...expected)}`);
        compared++;
      }
      assert.ok(compared > 15, String(compared));
    });
  }

  test("changes the losses of a run, and a run with it resumes exactly", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const at = (...names: string[]): string => join(folder, ...names);
    const argsOf = (name: string): readonly string[] => ["train", "--save-dir", at(name), "--threads", "1", "--log-interval", "1"];
    const onTwo = async (name: string, ...flags: readonly string[]): Promise<void> => {
      const { exitCode, stderr } = await spawnNextvlad([...argsOf(name), "--devices", "2", ...flags]);
      assert.equal(exitCode, 0, stderr);
    };
    // Of one process, which has the losses of two with synchronized batch norms; here, the flag has no effect.
    const { exitCode, stderr } = await runNextvlad([...argsOf("alone"), "--config", config, "--epoch", "1", "--no-sync-bn"]);
    assert.equal(exitCode, 0, stderr);
    await onTwo("run", "--config", config, "--no-sync-bn");
    const [ofRun, ofOne] = [lossesIn(at("run"))[0] as number, lossesIn(at("alone"))[0] as number];
    assert.ok(Math.abs(ofRun / ofOne - 1) > 1e-3, `first losses: ${ofRun} of shares, ${ofOne} of batches`);
    const tensors = readLog(at("run")).flatMap(({ tensors }) => (tensors === undefined ? [] : [tensors]));
    assert.equal(new Set(tensors).size, 1, `live tensors after each step: ${tensors}`);
    // The snapshot's config has the setting. The program itself checks after each epoch that the ranks have the same weights.
    await onTwo("resumed", "--resume", at("run", "NEXTVLAD_epoch0"));
    const weightsOf = (name: string): Buffer => readFileSync(at(name, "NEXTVLAD_epoch1", "weights.safetensors"));
    assert.deepEqual(weightsOf("resumed"), weightsOf("run"));
  });
});
