import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Command } from "commander";
import { program } from "../../src/cli.js";
import { addFlags, type CommandName, configOverrides, overriddenKeys } from "../../src/commands/flags.js";
import { findKey } from "../../src/config/keys.js";
import { buildConfig } from "../../src/config/load.js";

describe("the table of flags", () => {
  const flags = program.commands.flatMap((command) => command.options.map((option) => [command.name() as CommandName, option] as const));

  test("has no flag twice in a command, and help in one style", () => {
    assert.ok(flags.length > 90);
    assert.equal(new Set(flags.map(([command, { long }]) => `${command} ${long}`)).size, flags.length);
    for (const [command, { long, description }] of flags) {
      assert.match(description, /^(?:[a-z]|YAML|NaN|True|Paddle)[^\n]+[^.]$/, `${command} ${long}`);
    }
  });

  test("names existing config keys, also in the help", () => {
    let count = 0;
    for (const [command, { long, description }] of flags) {
      const keys = overriddenKeys(command, long ?? "");
      for (const key of keys) {
        const [section = "", name = ""] = key.split(".");
        assert.ok(findKey(section, name) !== undefined, key);
        count++;
      }
      assert.equal(/\[config: (.*)\]$/.exec(description)?.[1] ?? "", keys.join(", "), `${command} ${long}`);
    }
    assert.ok(count > 20);
  });

  test("flags set the keys of their command's section", () => {
    assert.deepEqual(overriddenKeys("eval", "--use-gpu"), ["TEST.use_gpu"]);
    assert.deepEqual(overriddenKeys("infer", "--use-gpu"), ["INFER.use_gpu"]);
    assert.deepEqual(overriddenKeys("train", "--batch-size"), ["TRAIN.batch_size", "VALID.batch_size"]);
    assert.deepEqual([overriddenKeys("digits", "--seed"), overriddenKeys("train", "--save-dir")], [[], []]);
  });
});

describe("config overrides", () => {
  const train = { saveDir: "x", logInterval: 10, validInterval: { epochs: 1 } };

  test("set the keys of the given flags only", () => {
    assert.deepEqual(configOverrides("train", train), []);
    const flags = configOverrides("train", { ...train, batchSize: "8", useGpu: true, modelName: "netvlad" });
    const { MODEL, TRAIN, VALID, TEST } = buildConfig({ MODEL: null }, "own.yaml", { flags });
    assert.deepEqual([MODEL.name, TRAIN.batch_size, VALID.batch_size, TRAIN.use_gpu], ["NETVLAD", 8, 8, true]);
    assert.deepEqual([TEST.batch_size, TEST.use_gpu], [40, "auto"]);
    assert.deepEqual(configOverrides("eval", { saveDir: "x", filelist: ["a", "b"] }), [
      { key: "TEST.filelist", flag: "--filelist", value: ["a", "b"] },
    ]);
  });

  test("--epoch 0 and --fix-random-seed True leave the keys unchanged; False draws a seed", () => {
    assert.deepEqual(configOverrides("train", { ...train, epoch: "0", fixRandomSeed: "True" }), []);
    assert.deepEqual(configOverrides("train", { ...train, fixRandomSeed: true }), []);
    assert.deepEqual(configOverrides("train", { ...train, fixRandomSeed: "7" }), [
      { key: "TRAIN.seed", flag: "--fix-random-seed", value: "7" },
    ]);
    const [drawn] = configOverrides("train", { ...train, fixRandomSeed: "false" });
    assert.match(String(drawn?.value), /^\d+$/);
  });

  test("--no-sync-bn sets false; without it, the config's own value stays", () => {
    const overridesOf = (...args: readonly string[]) => {
      const parser = new Command();
      addFlags(parser, "train");
      return configOverrides("train", parser.parse(args, { from: "user" }).opts());
    };
    assert.deepEqual(overridesOf(), []);
    assert.deepEqual(overridesOf("--no-sync-bn"), [{ key: "TRAIN.sync_bn", flag: "--no-sync-bn", value: false }]);
  });
});
