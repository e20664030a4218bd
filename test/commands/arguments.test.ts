import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { COMMAND_ALIASES, describeFlagAliases, FOREIGN_COMMANDS, FOREIGN_FLAGS, normalizeArguments } from "../../src/commands/arguments.js";
import { FLAG_ALIASES } from "../../src/commands/flags.js";
import { findKey } from "../../src/config/keys.js";
import { repository } from "../helpers/nextvlad.js";

const FLAGS = {
  train: ["--config", "--set", "--pretrain", "--learning-rate", "--fix-random-seed", "--batch-size", "--save-dir"],
  eval: ["--config", "--set", "--weights", "--filelist"],
  infer: ["--config", "--set", "--weights", "--filelist", "--infer-topk"],
  export: ["--set", "--weights", "--out"],
  convert: ["--filelist", "--feature-names"],
  digits: ["--out", "--seed"],
};
const flagsOf = new Map(Object.entries(FLAGS).map(([command, flags]) => [command, new Set(flags)]));
const normalise = (...args: string[]): readonly string[] => normalizeArguments(args, flagsOf).args;

test("underscores in flag names become dashes, those in values stay", () => {
  assert.deepEqual(
    normalise("train", "--batch_size", "8", "--save_dir=my_run", "--set", "TRAIN.batch_size=4", "--set=TRAIN.l2_penalty=0", "a_b"),
    ["train", "--batch-size", "8", "--save-dir=my_run", "--set", "TRAIN.batch_size=4", "--set=TRAIN.l2_penalty=0", "a_b"],
  );
  assert.deepEqual(normalise("eval", "--", "--a_b", "-c"), ["eval", "--", "--a_b", "-c"]);
});

test("arguments that are not flags stay unchanged", () => {
  fc.assert(
    fc.property(fc.array(fc.string().filter((text) => !text.startsWith("-"))), (args) =>
      assert.deepEqual(normalise("train", ...args), ["train", ...args]),
    ),
  );
});

describe("aliases", () => {
  test("of commands", () => {
    for (const [alias, name] of [
      ["predict", "infer"],
      ["test", "eval"],
      ["evaluate", "eval"],
      ["eval", "eval"],
    ] as const) {
      const { args, command } = normalizeArguments([alias, "--filelist", "test"], flagsOf);
      assert.deepEqual([args, command], [[name, "--filelist", "test"], name]);
    }
    assert.deepEqual(normalizeArguments(["version"], flagsOf), { args: ["--version"], command: undefined, notes: [] });
    assert.deepEqual(normalise("constructor"), ["constructor"]);
  });

  test("of flags, with their value separate, attached or after =", () => {
    assert.deepEqual(normalise("train", "-c", "a.yaml", "-oTRAIN.epoch=1", "-o=TRAIN.seed=2", "--override", "MODEL.topk=3", "-w", "x"), [
      ...["train", "--config", "a.yaml", "--set", "TRAIN.epoch=1", "--set", "TRAIN.seed=2", "--set", "MODEL.topk=3", "--pretrain", "x"],
    ]);
    assert.deepEqual(normalise("train", "--lr=0.1", "--seed", "7"), ["train", "--learning-rate", "0.1", "--fix-random-seed", "7"]);
    assert.deepEqual(normalise("predict", "-w", "x"), ["infer", "--weights", "x"]);
  });

  test("do not replace a command's own flags, and exist only in commands with their flag", () => {
    assert.deepEqual(normalise("digits", "--seed", "7"), ["digits", "--seed", "7"]);
    assert.deepEqual(normalise("infer", "--lr", "7", "-x"), ["infer", "--lr", "7", "-x"]);
    assert.deepEqual(normalise("convert", "--feature_names", "a,b"), ["convert", "--feature-names", "a,b"]);
  });

  test("-o is an error in commands with --out", () => {
    const refused = (command: string, message: RegExp) =>
      assert.throws(() => normalise(command, "-ow.npz"), { code: "BAD_USAGE", message });
    refused("export", /-o: unknown flag\. Use --out for the output path, --set for a config key\./);
    refused("digits", /-o: unknown flag\. Use --out for the output path\./);
    assert.equal(describeFlagAliases(flagsOf.get("export") ?? new Set()), "\nAliases: --override (--set), -w (--weights)");
  });

  test("refer to existing flags, and are in the help", () => {
    const all = new Set(Object.values(FLAGS).flat());
    for (const targets of Object.values(FLAG_ALIASES)) assert.ok(targets.every((flag) => all.has(flag)));
    for (const name of Object.values(COMMAND_ALIASES)) assert.ok(name === "--version" || flagsOf.has(name));
    assert.equal(
      describeFlagAliases(flagsOf.get("infer") ?? new Set()),
      "\nAliases: -c (--config), -o (--set), --override (--set), -w (--weights)",
    );
    assert.equal(describeFlagAliases(flagsOf.get("digits") ?? new Set()), "");
  });
});

describe("scripts of other tools", () => {
  test("are errors that name the command to use instead, with or without their directory and extension", () => {
    const refused = (word: string, remedy: string) => {
      const message = `${word}: unknown command. ${remedy}`;
      assert.throws(() => normalise(word, "--config", "x"), { code: "BAD_USAGE", exitCode: 2, message });
    };
    for (const name of ["tf2pkl", "tf2pkl.py"]) {
      refused(name, "Skip this step: shards are read directly; nextvlad convert --to pkl writes pickles.");
    }
    for (const name of ["inference_model", "inference-model", "inference_model.py"]) refused(name, "Use nextvlad export --format onnx.");
    refused("export_model", "Use nextvlad export.");
    refused("run.sh", "Use nextvlad train, eval or infer with the arguments of run.sh's commands.");
    refused("./run.sh", "Use nextvlad train, eval or infer with the arguments of run.sh's commands.");
    refused("scripts/train/train_nextvlad.sh", "Use nextvlad train --config configs/nextvlad.yaml.");
    refused("segment_eval_inference.py", "Use nextvlad eval --segments.");
    refused("main.py", "Use nextvlad train, or nextvlad eval for main.py --test.");
    for (const [script, command] of ["train train", "eval eval", "test eval", "predict infer"].map((pair) => pair.split(" "))) {
      refused(`${script}.py`, `Use nextvlad ${command}.`);
    }
    assert.deepEqual(normalise("toString.py", "version.py"), ["toString.py", "version.py"]);
  });

  test("have replacements that exist", () => {
    for (const [script, remedy] of Object.entries(FOREIGN_COMMANDS)) {
      assert.ok(!flagsOf.has(script) && !Object.hasOwn(COMMAND_ALIASES, script), script);
      const named = Array.from(remedy.matchAll(/nextvlad (\w+)/g), ([, name = ""]) => name);
      assert.ok(named.length > 0 && named.every((name) => flagsOf.has(name)), remedy);
    }
  });
});

describe("flags of other tools", () => {
  for (const flag of ["--no_memory_optimize", "--is-profiler=1", "--profiler_path", "--enable_ce", "--enable-ce"]) {
    test(`${flag} of PaddleVideo is an error that names the replacement`, () => {
      assert.throws(() => normalise("train", flag), { code: "BAD_USAGE", exitCode: 2, message: /: unknown flag\. (Remove it|Use --)/ });
    });
  }

  const helpFolder = join(repository, "test/commands/help");
  const helpOf = new Map(readdirSync(helpFolder).map((name) => [name.replace(".txt", ""), readFileSync(join(helpFolder, name), "utf8")]));
  const realFlags = new Map(
    Array.from(helpOf, ([name, help]) => [
      name,
      new Set(Array.from(help.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm), ([, flag = ""]) => flag)),
    ]),
  );

  test("are errors that name the replacement, in commands that have it; elsewhere the parser rejects them", () => {
    for (const [flag, remedy] of Object.entries(FOREIGN_FLAGS)) {
      const written = flag.replaceAll("-", "_").replace(/^_+/, (dashes) => "-".repeat(dashes.length));
      const message = `${flag}: unknown flag. ${remedy.charAt(0).toUpperCase()}${remedy.slice(1)}.`;
      const named = Array.from(remedy.matchAll(/--[a-z-]+/g), ([name]) => name);
      let refusals = 0;
      for (const [command, flags] of realFlags) {
        if (flags.has(flag)) continue;
        const run = () => normalizeArguments([command, written], realFlags).args;
        const isModelCommand = ["train", "eval", "infer"].includes(command);
        if (isModelCommand && (named.length === 0 || named.some((name) => flags.has(name)))) {
          assert.throws(run, { code: "BAD_USAGE", exitCode: 2, message });
          refusals++;
        } else assert.deepEqual(run(), [command, flag], command);
      }
      assert.ok(refusals > 0, flag);
    }
    const refused = (...args: string[]) => assert.throws(() => normalizeArguments(args, realFlags), { code: "BAD_USAGE" });
    refused("train", "--validate");
    refused("infer", "--video_path=a_b");
    assert.deepEqual(normalizeArguments(["eval", "--validate"], realFlags).args, ["eval", "--validate"]);
    assert.deepEqual(normalizeArguments(["digits", "--feature_names", "a,b"], realFlags).args, ["digits", "--feature-names", "a,b"]);
  });

  test("have replacements that exist", () => {
    const all = new Set([...realFlags.values()].flatMap((flags) => [...flags]));
    for (const [flag, remedy] of Object.entries(FOREIGN_FLAGS)) {
      for (const [name] of remedy.matchAll(/--[a-z-]+/g)) assert.ok(all.has(name), `${flag}: ${remedy}`);
      for (const [, section = "", key = ""] of remedy.matchAll(/\b([A-Z]+)\.([a-z0-9_]+)/g)) {
        assert.ok(findKey(section, key) !== undefined, `${flag}: ${remedy}`);
      }
    }
  });

  test("--no_use_pyreader is accepted with a note", () => {
    const { args, notes } = normalizeArguments(["train", "--no_use_pyreader", "--config", "x"], flagsOf);
    assert.deepEqual([args, notes], [["train", "--config", "x"], ["--no-use-pyreader has no effect: worker threads always read ahead"]]);
  });
});
