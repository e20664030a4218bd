import assert from "node:assert/strict";
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import type { Config } from "../../src/config/schema.js";
import type { StartOptions } from "../../src/training/options.js";
import { type ResumedRun, readResumedRun } from "../../src/training/resume.js";
import { temporaryFolder } from "../helpers/files.js";
import { goldenFolder } from "../helpers/golden.js";
import { failsWith } from "../helpers/shards.js";
import { closeWeights, configWith, STATE, useSnapshots } from "../helpers/start.js";

describe("readResumedRun", () => {
  const { at, write, options, resuming } = useSnapshots();

  async function read(given: StartOptions, config: Config = configWith()): Promise<ResumedRun | null> {
    return readResumedRun(config, given).finally(() => closeWeights(given));
  }

  test("conflicting flags are an error", async () => {
    await failsWith(read(await options({ resumeStep: 3 })), "BAD_USAGE", { key: "--resume-step" });
    const pretrain = await openWeights(at("run", "NEXTVLAD_epoch0"), { optimizer: false });
    await failsWith(read(await resuming(at("run", "NEXTVLAD_step8"), { pretrain })), "BAD_USAGE");
    await failsWith(read(await resuming(at("run", "NEXTVLAD_step8"), { resumeStep: 3 })), "BAD_USAGE");
  });

  test("a new run resumes nothing; a snapshot contains its state", async () => {
    assert.equal(await read(await options()), null);
    const resumed = await read(await resuming(at("run", "NEXTVLAD_step8")));
    assert.deepEqual([resumed?.run, resumed?.source], [STATE, "from the snapshot's state"]);
  });

  test("a resumed run cannot change its seed, nor inside an epoch the settings that the order of videos depends on", async () => {
    const resume = (name: string, train: Record<string, unknown>) =>
      resuming(at("run", name)).then((given) => read(given, configWith(train)));
    const refused = async (name: string, train: Record<string, unknown>, key: string, expected: string, found: string): Promise<void> =>
      void (await failsWith(resume(name, train), "BAD_CONFIG", { key, expected, found }));
    await refused("NEXTVLAD_epoch0", { seed: 6 }, "TRAIN.seed", "5", "6");
    await refused("NEXTVLAD_step8", { batch_size: 8, shuffle_buffer: 9 }, "TRAIN.batch_size", "16", "8");
    await write(at("run", "NEXTVLAD_step9"), { state: { step: 9 }, train: { shuffle_buffer: 7, on_corrupt: "skip-record" } });
    await refused("NEXTVLAD_step9", { shuffle_buffer: 9 }, "TRAIN.shuffle_buffer", "7", "9");
    await refused("NEXTVLAD_step9", { shuffle_buffer: 7, on_corrupt: "error" }, "TRAIN.on_corrupt", "skip-record", "error");
    await resume("NEXTVLAD_step9", { shuffle_buffer: 7, on_corrupt: "skip-record" });
    // A policy other than "error" may be introduced at any time; the other settings may change between epochs.
    await write(at("run", "NEXTVLAD_step9"), { state: { step: 9 }, train: { shuffle_buffer: 7 } });
    await resume("NEXTVLAD_step9", { shuffle_buffer: 7, on_corrupt: "skip-record" });
    rmSync(at("run", "NEXTVLAD_step9"), { recursive: true });
    const free = await resuming(at("run", "NEXTVLAD_epoch0"), { overwrite: true });
    await read(free, configWith({ batch_size: 8, shuffle_buffer: 9, on_corrupt: "skip-shard" }));
  });

  test("Paddle's checkpoints resume at the step of their optimizer, and at the epoch of their name", async (t) => {
    const directory = temporaryFolder(t);
    for (const [name, epoch, words] of [
      ["checkpoint3", 0, /epochs count from 0/],
      ["NEXTVLAD_epoch5", 6, /epoch from the file name/],
      ["NEXTVLAD_epoch_0", 1, /epoch from the file name/],
    ] as const) {
      for (const ending of ["pdparams.gz", "pdopt.gz"])
        copyFileSync(fileURLToPath(new URL(`checkpoint3.${ending}`, goldenFolder("resume"))), join(directory, `${name}.${ending}`));
      const source = await openWeights(join(directory, `${name}.pdparams.gz`), { optimizer: true });
      const resumed = await read(await options({ resume: source }), configWith({ seed: 9 }));
      const validated_epoch = epoch === 0 ? null : epoch - 1;
      assert.deepEqual(resumed?.run, {
        step: 3,
        epoch,
        step_in_epoch: 0,
        seed: 9,
        best: null,
        validated_epoch,
        validated_step: 3,
        shards: null,
      });
      assert.equal(resumed?.writtenBy, null);
      assert.match(resumed?.source ?? "", words);
    }
  });
});
