import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { Logger } from "pino";
import { givenBatchSize, logTrainingNotes } from "../../src/commands/configuration.js";
import type { InferFlags } from "../../src/commands/flags.js";
import { buildConfig, loadConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import { repository } from "../helpers/nextvlad.js";

test("infer's batch size is --batch-size, --set, or the config's unless it is PaddleVideo's", () => {
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

/** Returns the notes and warnings about a config. */
function notesOf(config: Config, processes = 1): { readonly info: readonly string[]; readonly warn: readonly string[] } {
  const [info, warn]: [string[], string[]] = [[], []];
  logTrainingNotes(
    { info: (line: string) => info.push(line), warn: (line: string) => warn.push(line) } as unknown as Logger,
    config,
    processes,
  );
  return { info, warn };
}

test("the log notes the key of nextvlad.yaml that has no effect", async () => {
  const { info, warn } = notesOf(await loadConfig(join(repository, "configs/nextvlad.yaml")));
  assert.deepEqual([info.length, warn], [1, []]);
  assert.match(info[0] ?? "", /gradient_clip_norm = 1 has no effect/);
  assert.deepEqual(notesOf(buildConfig({ MODEL: null }, "own.yaml")), { info: [], warn: [] });
});

test("only a batch norm of 1 video is a warning", () => {
  const warnings = (batch_size: number, processes = 1, sync_bn = true) =>
    notesOf(buildConfig({ TRAIN: { batch_size, sync_bn } }, "own.yaml"), processes).warn;
  assert.deepEqual([warnings(2), warnings(160), warnings(4, 4), warnings(8, 4, false), warnings(2, 1, false)], [[], [], [], [], []]);
  assert.match(warnings(1).join(), /^TRAIN\.batch_size = 1: .*; use at least 16/);
  assert.match(warnings(7, 4, false).join(), /^TRAIN\.batch_size = 7 for 4 processes with TRAIN\.sync_bn = false: .*; use at least 64/);
});
