import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { loadConfig } from "../../src/config/load.js";
import { checkMemory, minimumMemory } from "../../src/model/memory.js";
import { repository } from "../helpers/nextvlad.js";
import { failsWith } from "../helpers/shards.js";

const { MODEL } = await loadConfig(join(repository, "configs/nextvlad.yaml"));
const LIMIT = { limit: "the memory limit of the container (cgroup)", remedy: "raise the container's memory limit" };
const TRAINING = { model: MODEL, batchSize: 160, parts: 1, ranks: 1, training: true, inHostMemory: true } as const;

test("training needs the parameters three times, a snapshot's copy of them, and the activations of a batch", () => {
  const { parameters = 0, moments = 0, activations, ...copy } = minimumMemory(TRAINING);
  // PaddleVideo's weights have some 95 million values.
  assert.ok(parameters > 350e6 && parameters < 400e6, String(parameters));
  assert.ok(moments > 1.99 * parameters && moments < 2 * parameters);
  assert.deepEqual(copy, { "a snapshot's copy": parameters + moments });
  // Per video, twice: 128 x (256 + 32) of the descriptor, 2,048 hidden, 3,862 classes.
  assert.equal(activations, 4 * 160 * 2 * (128 * 288 + 2048 + 3862));
  assert.deepEqual(minimumMemory({ ...TRAINING, inHostMemory: false }), copy);
  // Each of two ranks stores half of the hidden layer's rows; rank 0 saves all of them.
  const half = (4 * 128 * 288 * 2048) / 2;
  const ofRank = { parameters: parameters - half, moments: moments - 2 * half, ...copy, activations };
  assert.deepEqual(minimumMemory({ ...TRAINING, ranks: 2 }), ofRank);
  const averaged = { parameters, moments, averages: parameters, "a snapshot's copy": 2 * parameters + moments, activations };
  assert.deepEqual(minimumMemory({ ...TRAINING, averaging: true }), averaged);
  assert.deepEqual(minimumMemory({ ...TRAINING, training: false, inHostMemory: false }), {});
});

test("a model that exceeds the memory is an error, and a batch that may exceed it a warning", async () => {
  const warnings: string[] = [];
  const check = async (computation: Parameters<typeof checkMemory>[0], bytes: number): Promise<void> =>
    checkMemory(computation, (message) => warnings.push(message), { bytes, ...LIMIT });
  await check(TRAINING, 16e9);
  assert.deepEqual(warnings, []);
  await check({ ...TRAINING, parts: 160 }, 3e9);
  assert.deepEqual(warnings, []);
  await check(TRAINING, 3e9);
  assert.match(
    warnings.join("; "),
    /^a batch of 160 videos of 300 frames needs about \d[.\d]* GB, and 3 GB is available within the memory limit of the container .*: if the run is killed, use --accumulate or a smaller --batch-size$/,
  );
  const large = { ...TRAINING, model: { ...MODEL, num_classes: 20_000_000 } };
  const error = await failsWith(check(large, 64e9), "OUT_OF_MEMORY");
  assert.match(
    error.message,
    /^training this model needs more memory than is available \(parameters 164 GB, moments 328 GB, a snapshot's copy 493 GB, activations/,
  );
  assert.match(error.message, /found 64 GB within the memory limit of the container \(cgroup\)\)\. Raise the container's memory limit\.$/);
  // Evaluation may have fewer videos than a batch.
  await check({ ...TRAINING, training: false, batchSize: 1_000_000 }, 3e9);
  await failsWith(check({ ...large, training: false }, 64e9), "OUT_OF_MEMORY");
});
