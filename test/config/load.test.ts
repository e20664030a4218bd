import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { NextvladError } from "../../src/base/errors.js";
import { buildConfig, loadConfig, type Overrides } from "../../src/config/load.js";
import { temporaryFolder } from "../helpers/files.js";
import { repository } from "../helpers/nextvlad.js";

function failure(value: unknown, overrides: Overrides = {}): NextvladError {
  try {
    buildConfig(value, "own.yaml", overrides);
  } catch (error) {
    assert.ok(error instanceof NextvladError);
    assert.equal(error.code, "BAD_CONFIG");
    assert.doesNotMatch(error.message, /\n/);
    return error;
  }
  return assert.fail("the config should be invalid");
}

describe("the configs in the repository", () => {
  test("nextvlad.yaml is the published recipe, and requires a GPU", async () => {
    const { MODEL, TRAIN, VALID, TEST, INFER } = await loadConfig(join(repository, "configs/nextvlad.yaml"));
    assert.deepEqual(
      [MODEL.num_classes, MODEL.cluster_size, MODEL.hidden_size, MODEL.groups, MODEL.expansion, MODEL.gating_reduction, MODEL.drop_rate],
      [3862, 128, 2048, 8, 2, 8, 0.5],
    );
    assert.deepEqual(
      [TRAIN.epoch, TRAIN.learning_rate, TRAIN.lr_boundary_examples, TRAIN.max_iter, TRAIN.learning_rate_decay, TRAIN.l2_penalty],
      [6, 0.0002, 2_000_000, 700_000, 0.8, 1e-5],
    );
    assert.deepEqual([TRAIN.batch_size, VALID.batch_size, TEST.batch_size, INFER.batch_size], [160, 160, 40, 1]);
    assert.deepEqual([TRAIN.use_gpu, TEST.use_gpu, INFER.use_gpu], [true, "auto", "auto"]);
    assert.equal(VALID.filelist, "./data/dataset/youtube8m/val.list");
    assert.equal(MODEL.eigen_file, "./data/dataset/youtube8m/yt8m_pca/eigenvals.npy");
    assert.equal(TRAIN.gradient_clip, null);
  });

  test("a section that is a Map, a Set, a Date or bytes is not an empty section", () => {
    for (const value of [new Map([["epoch", 1]]), new Set(["epoch"]), new Date(0), Buffer.from("x")]) {
      assert.match(failure({ TRAIN: value }).message, /^own\.yaml, TRAIN: not a section \(expected a mapping/);
      assert.match(failure(value).message, /^own\.yaml: not a config file/);
    }
  });

  test("digits.yaml is valid, and its learning rate decays after each epoch of 3,000 videos", async () => {
    const { MODEL, TRAIN } = await loadConfig(join(repository, "configs/digits.yaml"));
    assert.deepEqual([MODEL.num_classes, MODEL.cluster_size, MODEL.hidden_size, MODEL.eigen_file], [10, 16, 256, null]);
    assert.deepEqual([TRAIN.batch_size, TRAIN.learning_rate, TRAIN.learning_rate_decay, TRAIN.lr_boundary_examples], [32, 1e-3, 0.4, 3000]);
  });

  for (const name of ["audioset.yaml", "audioset-plain.yaml"]) {
    test(`${name} is valid: audio only, AudioSet's feature name and classes`, async () => {
      const { MODEL, TRAIN } = await loadConfig(join(repository, "configs", name));
      assert.deepEqual([MODEL.video_feature_size, MODEL.audio_feature_size, MODEL.feature_names[1]], [0, 128, "audio_embedding"]);
      assert.deepEqual([MODEL.num_classes, MODEL.eigen_file, TRAIN.batch_size], [527, null, 128]);
    });
  }

  test("audioset-plain.yaml has the settings that the peers train with", async () => {
    const { MODEL, TRAIN } = await loadConfig(join(repository, "configs/audioset-plain.yaml"));
    const { epoch, learning_rate, learning_rate_decay, lr_boundary_examples } = TRAIN;
    assert.deepEqual([MODEL.cluster_size, MODEL.hidden_size], [64, 1024]);
    assert.deepEqual([epoch, learning_rate, learning_rate_decay, lr_boundary_examples], [12, 1e-3, 0.4, 88_000]);
  });
});

describe("values", () => {
  test("1e-5 is a number, and so are quoted numbers and booleans, as PaddleVideo's users write them", async (context) => {
    const file = join(temporaryFolder(context), "quoted.yaml");
    writeFileSync(
      file,
      'MODEL:\n  eigen_file: None\nTRAIN:\n  l2_penalty: 1e-5\n  learning_rate: "2e-4"\n  use_gpu: "False"\n  epoch: "3"\n',
    );
    const { MODEL, TRAIN } = await loadConfig(file);
    assert.deepEqual([TRAIN.l2_penalty, TRAIN.learning_rate, TRAIN.use_gpu, TRAIN.epoch, MODEL.eigen_file], [1e-5, 2e-4, false, 3, null]);
  });

  test("keys that are missing have the published values", () => {
    const config = buildConfig({ MODEL: { num_classes: 12 }, TRAIN: null }, "own.yaml");
    assert.deepEqual([config.MODEL.num_classes, config.MODEL.hidden_size, config.TRAIN.batch_size], [12, 2048, 160]);
    assert.deepEqual([config.MODEL.max_frames, config.MODEL.feature_names, config.TRAIN.seed], [300, ["rgb", "audio"], 0]);
    assert.deepEqual([config.TRAIN.shuffle_buffer, config.TRAIN.gradient_clip, config.INFER.num_readers], [1024, null, null]);
  });

  test("the model's name is case-insensitive", () => {
    assert.equal(buildConfig({ MODEL: { name: "nextvlad" } }, "own.yaml").MODEL.name, "NEXTVLAD");
    assert.match(
      failure({ MODEL: { name: "AttentionCluster" } }).message,
      /expected NEXTVLAD, NETVLAD or MIX_NEXTVLAD, found "AttentionCluster"/,
    );
    const { MODEL } = buildConfig({ MODEL: { name: "netvlad", groups: 7, expansion: 3 } }, "own.yaml");
    assert.deepEqual([MODEL.name, MODEL.groups, MODEL.expansion], ["NETVLAD", 1, 1]);
  });

  test("a config is deeply frozen", () => {
    const config = buildConfig({ TRAIN: {} }, "own.yaml");
    assert.ok([config, config.MODEL, config.MODEL.feature_names, config.TRAIN].every(Object.isFrozen));
  });

  const refused: readonly [string, string, unknown][] = [
    ["TRAIN", "epoch", 0],
    ["TRAIN", "epoch", 1.5],
    ["TRAIN", "epoch", null],
    ["TRAIN", "batch_size", "six"],
    ["TEST", "batch_size", 2 ** 31],
    ["TRAIN", "learning_rate", 0],
    ["TRAIN", "learning_rate", Number.NaN],
    // Outside the range of float32.
    ["TRAIN", "learning_rate", 1e-320],
    ["TRAIN", "learning_rate", "1e39"],
    ["TRAIN", "learning_rate_decay", 1e-40],
    ["TRAIN", "l2_penalty", 1e-46],
    ["TRAIN", "gradient_clip", 1e300],
    ["MODEL", "drop_rate", 0.99999999],
    // An object without entries of its own.
    ["TRAIN", "epoch", new Map([["x", 1]])],
    ["TRAIN", "l2_penalty", -1],
    ["TRAIN", "l2_penalty", Number.POSITIVE_INFINITY],
    ["TRAIN", "use_gpu", "yes"],
    ["TRAIN", "seed", 2 ** 32],
    ["TRAIN", "gradient_clip", 0],
    ["MODEL", "drop_rate", 1],
    ["MODEL", "eigen_file", ""],
    ["MODEL", "feature_names", ["rgb"]],
    ["MODEL", "feature_names", ["rgb", "rgb"]],
    ["VALID", "filelist", 3],
    ["INFER", "num_readers", 0],
  ];
  for (const [section, name, value] of refused) {
    test(`${section}.${name} cannot be ${value}`, () => {
      const { message } = failure({ [section]: { [name]: value } });
      assert.ok(message.startsWith(`own.yaml, ${section}.${name}: invalid value (expected `), message);
      assert.match(message, /, found /);
    });
  }
});

describe("values that depend on each other", () => {
  test("groups must divide both expanded features", () => {
    assert.match(
      failure({ MODEL: { groups: 512 } }).message,
      /^own.yaml, MODEL.groups: .*expected a divisor of expansion \* audio_feature_size = 256, found 512/,
    );
  });

  test("gating_reduction must divide hidden_size", () => {
    assert.match(failure({ MODEL: { gating_reduction: 3 } }).message, /MODEL.gating_reduction: .*divisor of hidden_size = 2048, found 3/);
  });

  test("an invalid batch size is the only problem", () => {
    assert.match(
      failure({ TRAIN: { batch_size: 0 } }).message,
      /^own\.yaml, TRAIN\.batch_size: invalid value \(expected an integer from 1 /,
    );
  });

  test("the learning rate decays after a batch at the earliest", () => {
    assert.match(failure({ TRAIN: { lr_boundary_examples: 159 } }).message, /lr_boundary_examples: .*at least batch_size = 160, found 159/);
  });
});

describe("precedence", () => {
  const file = { TRAIN: { batch_size: 8, epoch: 2 } };
  const flags = [
    { key: "TRAIN.batch_size", value: "16", flag: "--batch-size" },
    { key: "TEST.use_gpu", value: true, flag: "--use-gpu" },
  ];

  test("flags override the file, --set overrides flags, and the last --set wins", () => {
    assert.deepEqual(buildConfig(file, "own.yaml", { flags }).TRAIN.batch_size, 16);
    const { TRAIN, TEST } = buildConfig(file, "own.yaml", { flags, settings: ["TRAIN.batch_size=32", "TRAIN.batch_size=64"] });
    assert.deepEqual([TRAIN.batch_size, TRAIN.epoch, TRAIN.learning_rate, TEST.use_gpu], [64, 2, 0.0002, true]);
  });

  test("the value of --set is text, or YAML in brackets or quotes", () => {
    const settings = [
      "TRAIN.filelist=*.tfrecord",
      'VALID.filelist="a = b"',
      "MODEL.feature_names=[a, b]",
      "MODEL.eigen_file=null",
      "TRAIN.use_gpu=True",
    ];
    const { MODEL, TRAIN, VALID } = buildConfig(file, "own.yaml", { settings });
    assert.deepEqual([TRAIN.filelist, VALID.filelist, MODEL.feature_names], ["*.tfrecord", "a = b", ["a", "b"]]);
    assert.deepEqual([MODEL.eigen_file, TRAIN.use_gpu], [null, true]);
  });

  test("errors name the flag, not the file", () => {
    const bad = [{ key: "TRAIN.epoch", value: "-1", flag: "--epoch" }];
    assert.match(failure(file, { flags: bad }).message, /^--epoch: invalid value \(expected an integer from 1 to 2147483647, found "-1"\)/);
    assert.match(failure(file, { settings: ["TRAIN.epoch=x"] }).message, /^--set TRAIN.epoch: invalid value/);
    assert.match(failure(file, { settings: ["TRAIN.epoc=1"] }).message, /^--set TRAIN.epoc: unknown key. Did you mean TRAIN\.epoch\?$/);
    assert.match(failure(file, { settings: ["TRIAN.epoch=1"] }).message, /^--set TRIAN.epoch: unknown section. Did you mean TRAIN\?$/);
    assert.match(failure(file, { settings: ["epoch=1"] }).message, /^--set epoch=1: not of the form SECTION.key=value/);
    assert.match(failure(file, { settings: ["MODEL.feature_names=[a"] }).message, /^--set MODEL.feature_names: invalid YAML: /);
  });
});

describe("not a config", () => {
  for (const value of [null, [], "text", 3, {}]) {
    test(JSON.stringify(value), () =>
      assert.match(failure(value).message, /^own.yaml: not a config file \(expected a mapping with the sections MODEL/),
    );
  }

  test("a section that is a list", () => assert.match(failure({ TRAIN: [1] }).message, /^own.yaml, TRAIN: not a section .*found \[1\]/));

  test("names of Object's properties are unknown keys", () => {
    const value = JSON.parse('{"__proto__": {"a": 1}, "TRAIN": {"constructor": 1, "__proto__": 2}}');
    assert.match(failure(value).message, /3 problems.*TRAIN.constructor.*|3 problems.*TRAIN.__proto__/);
    assert.match(failure({ TRAIN: {} }, { settings: ["__proto__.a=1"] }).message, /^--set __proto__.a: unknown section/);
  });
});

test("cyclic and unresolved aliases are errors", async (context) => {
  const file = join(temporaryFolder(context), "own.yaml");
  for (const [text, message] of [
    ["MODEL: &a [*a]", /MODEL: not a section .*found a list that is nested too deeply/],
    ["MODEL: &a {num_classes: *a}", /MODEL.num_classes: invalid value .*found a mapping that is nested too deeply/],
    ["MODEL: &a {own: *a}", /MODEL.own: unknown key/],
    ["TRAIN: {filelist: &a [*a]}", /TRAIN.filelist: invalid value .*found a list that is nested too deeply/],
  ] as const) {
    writeFileSync(file, text);
    await assert.rejects(
      loadConfig(file),
      (error) => error instanceof NextvladError && error.code === "BAD_CONFIG" && message.test(error.message),
    );
  }
  assert.match(
    failure({ MODEL: {} }, { settings: ["TRAIN.filelist=[*b]"] }).message,
    /--set TRAIN.filelist: invalid YAML: Unresolved alias/,
  );
  assert.match(failure({ MODEL: {} }, { settings: ["TRAIN.filelist=[&a [*a]]"] }).message, /nested too deeply/);
  assert.match(failure({ MODEL: {} }, { settings: [`TRAIN.filelist=[${"\n".repeat(20_000)}]`] }).message, /more than 16384 bytes/);
});

test("the parser is fast for any text of the maximum size", async (context) => {
  const file = join(temporaryFolder(context), "own.yaml");
  for (const unit of ["\n", "&a ", "*a ", "? a\n", "- ", "[", "{a,", "a: 1\n"]) {
    writeFileSync(file, unit.repeat(16_384 / unit.length));
    const start = performance.now();
    await assert.rejects(loadConfig(file), NextvladError);
    // A second, or ten on a busy machine.
    assert.ok(performance.now() - start < 10_000, JSON.stringify(unit));
  }
});

test("one error lists all problems", () => {
  const value = { TRAIN: { batch_sise: 8, epoch: "six" }, TEST: { learning_rate: 1 }, VALIDATE: {} };
  const { message, exitCode } = failure(value, { settings: ["INFER.batch_size=0"] });
  assert.equal(exitCode, 2);
  assert.match(message, /^the config has 5 problems: \(1\) .*\(3\) .*[^.?][.?]$/);
  for (const part of [
    'invalid value (expected an integer from 1 to 2147483647), 2 times: own.yaml, TRAIN.epoch (found "six"); --set INFER.batch_size (',
    "own.yaml: unknown key, 2 times: TRAIN.batch_sise (did you mean TRAIN.batch_size?); TEST.learning_rate (did you mean TRAIN.",
    "own.yaml, VALIDATE: unknown section. Did you mean VALID?",
  ]) {
    assert.ok(message.includes(part), `${part}\n${message}`);
  }
});

test("another model's config is two problems: its name, and the number of unknown keys", () => {
  const unknown = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, 1]));
  const value = {
    MODEL: { name: "TSN", ...unknown(["format", "seg_num", "seglen", "image_mean", "num_layers"]) },
    TRAIN: unknown(["short_size", "num_reader_threads", "l2_weight_decay", "momentum"]),
    TEST: unknown(["short_size", "target_size", "buf_size"]),
  };
  assert.equal(
    failure(value).message,
    'the config has 13 problems: (1) own.yaml, MODEL.name: invalid value (expected NEXTVLAD, NETVLAD or MIX_NEXTVLAD, found "TSN"). ' +
      "(2) own.yaml: unknown key, 12 times: MODEL.format; MODEL.seg_num; MODEL.seglen; and 9 more. " +
      "See configs/nextvlad.yaml, or the config.yaml of a snapshot for all keys.",
  );
});
