import assert from "node:assert/strict";
import { test } from "node:test";
import { givenBatchSize } from "../../src/commands/configuration.js";
import type { InferFlags } from "../../src/commands/options.js";
import { buildConfig } from "../../src/config/load.js";

test("infer's batch size is the user's choice where a flag, --set or a config other than PaddleVideo's names it", () => {
  const given = (flags: Partial<InferFlags>, batchSize?: number): number | null => {
    const value = { INFER: batchSize === undefined ? {} : { batch_size: batchSize } };
    const override = flags.batchSize === undefined ? [] : [{ key: "INFER.batch_size", flag: "--batch-size", value: flags.batchSize }];
    const config = buildConfig({ MODEL: {}, ...value }, "own.yaml", { flags: override, settings: flags.set ?? [] });
    return givenBatchSize(config, { saveDir: "x", inferTopk: 20, format: ["pickle"], ...flags });
  };
  assert.deepEqual([given({}), given({}, 1)], [null, null]);
  assert.deepEqual([given({}, 16), given({ batchSize: "1" }), given({ batchSize: "8" }, 1)], [16, 1, 8]);
  assert.deepEqual([given({ set: ["INFER.batch_size=1"] }), given({ set: ["MODEL.topk=5"] })], [1, null]);
});
