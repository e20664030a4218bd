import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseThreads } from "../../src/base/threads.js";
import { buildConfig } from "../../src/config/load.js";
import { ALONE } from "../../src/distributed/world.js";
import { epochOptions } from "../../src/training/epoch.js";

test("with a limit, each epoch has the videos of the first one, but mixup draws other mixes", () => {
  const config = buildConfig({ TRAIN: { mixup: 0.5 } }, "test");
  const of = (epoch: number, limitVideos: number | null) => {
    const source = { shards: [], threads: chooseThreads(null, assert.fail), limitVideos, world: ALONE, repeatFactors: undefined };
    const run = { step: 0, epoch, step_in_epoch: 0, seed: 0, best: null, validated_epoch: null, shards: null };
    const { epoch: ordered, limitVideos: limit, mixup } = epochOptions(config, source, run);
    return { ordered, limit, mixup };
  };
  assert.deepEqual(of(2, 32), { ordered: 0, limit: 32, mixup: { alpha: 0.5, epoch: 2 } });
  assert.deepEqual(of(2, null), { ordered: 2, limit: undefined, mixup: { alpha: 0.5, epoch: 2 } });
});
