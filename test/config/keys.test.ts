import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { describeKeys, formatConfig, sectionNames, suggestKey } from "../../src/config/keys.js";
import { buildConfig, loadConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import { temporaryFolder } from "../helpers/files.js";

const keys = describeKeys();
const known = new Set(keys.map((key) => key.name));

test("every key has help, a range, and a valid default", () => {
  for (const { section, name, help, expected, default: value } of keys) {
    assert.match(help, /^\S.{8,}[^.]$/, `${section}.${name}`);
    assert.match(expected, /^\S.*[^.]$/, `${section}.${name}`);
    const config = buildConfig({ [section]: { [name]: value } }, "own.yaml");
    assert.deepEqual(config, buildConfig({ [section]: null }, "own.yaml"));
  }
});

test("a key with one typo suggests a key at the same distance or closer", () => {
  const typo = fc.record({
    key: fc.constantFrom(...keys),
    at: fc.nat(),
    letter: fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz_"),
    kind: fc.nat(2),
  });
  fc.assert(
    fc.property(typo, ({ key, at, letter, kind }) => {
      const i = at % key.name.length;
      const word = key.name.slice(0, i) + (kind === 0 ? "" : letter) + key.name.slice(kind === 2 ? i : i + 1);
      fc.pre(!known.has(word));
      const suggestion = suggestKey(key.section, word);
      const named = /^did you mean \w+\.(\w+)\?$/.exec(suggestion)?.[1];
      assert.ok(named !== undefined && known.has(named), suggestion);
      assert.ok(named === key.name || oneEditApart(named, word), `${word} is nearer to ${key.name} than to ${named}`);
    }),
    { numRuns: 500 },
  );
});

function oneEditApart(a: string, b: string): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  return [...long].some(
    (_, i) => long.slice(0, i) + long.slice(i + 1) === short || long.slice(0, i) + short[i] + long.slice(i + 1) === short,
  );
}

test("any unknown key is an error that names existing keys", () => {
  fc.assert(
    fc.property(fc.constantFrom(...sectionNames), fc.string({ minLength: 1, maxLength: 30 }), (section, word) => {
      fc.pre(!known.has(word));
      try {
        buildConfig({ [section]: { [word]: 1 } }, "own.yaml");
      } catch (error) {
        assert.ok(error instanceof NextvladError);
        const remedy = error.details.remedy ?? "";
        assert.ok(
          keys.some((key) => remedy === `did you mean ${key.section}.${key.name}?` || remedy.startsWith(`the keys of ${section} are `)),
          remedy,
        );
        return;
      }
      assert.fail("an unknown key was accepted");
    }),
    { numRuns: 300 },
  );
});

const size = fc.integer({ min: 1, max: 5000 });
const path = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" });
const above0 = fc.double({ min: 2 ** -126, max: 1e9, noNaN: true });
const device = fc.constantFrom(true, false, "auto");
const policy = fc.constantFrom("error", "skip-record", "skip-shard");
const reading = { batch_size: size, filelist: path, num_readers: fc.option(fc.integer({ min: 1, max: 64 })) };

/** Valid configs: groups, reduction and boundary fit the other values. */
const configs: fc.Arbitrary<Config> = fc
  .record({
    MODEL: fc.record({
      num_classes: size,
      topk: size,
      video_feature_size: size.map((value) => value * 8),
      audio_feature_size: size.map((value) => value * 8),
      feature_names: fc.tuple(path, path).filter(([first, second]) => first !== second),
      max_frames: size,
      cluster_size: size,
      hidden_size: size.map((value) => value * 8),
      groups: fc.constantFrom(1, 2, 4, 8),
      drop_rate: fc.double({ min: 0, max: 0.999, noNaN: true }),
      eigen_file: fc.oneof(
        fc.constant(null),
        path.filter((text) => !/^\s*(none|null|~)\s*$/i.test(text)),
      ),
    }),
    TRAIN: fc.record({
      ...reading,
      epoch: size,
      learning_rate: above0,
      lr_boundary_examples: size.map((value) => value + 5000),
      learning_rate_decay: above0,
      l2_penalty: above0,
      gradient_clip: fc.option(above0),
      gradient_clip_norm: fc.option(above0),
      ema_decay: fc.option(fc.double({ min: 0, max: 0.999, noNaN: true })),
      use_gpu: device,
      on_corrupt: policy,
      seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    }),
    VALID: fc.record(reading),
    TEST: fc.record({ ...reading, use_gpu: device, on_corrupt: policy }),
    INFER: fc.record({ ...reading, use_gpu: device }),
  })
  .map((value) => buildConfig(value, "own.yaml"));

test("formatConfig round-trips", async (context) => {
  const file = join(temporaryFolder(context), "config.yaml");
  await fc.assert(
    fc.asyncProperty(configs, async (config) => {
      writeFileSync(file, formatConfig(config));
      assert.deepEqual(await loadConfig(file), config);
    }),
    { numRuns: 100 },
  );
});

test("formatConfig writes the help of each key as a comment", () => {
  const lines = formatConfig(buildConfig({ MODEL: null }, "own.yaml")).split("\n");
  for (const { name, help } of describeKeys()) {
    assert.ok(
      lines.some((line, i) => line === `  # ${help}` && lines[i + 1]?.startsWith(`  ${name}:`)),
      name,
    );
  }
});
