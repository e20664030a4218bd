import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NextvladError } from "../../src/base/errors.js";
import { program } from "../../src/cli.js";
import { normalizeArguments } from "../../src/commands/arguments.js";
import { flagsOfCommand } from "../../src/commands/process.js";
import { buildConfig, loadConfig } from "../../src/config/load.js";
import { findAll, readPage, tableRows } from "./pages.js";

const flagsOf = new Map(program.commands.map((command) => [command.name(), flagsOfCommand(command)]));

/** Returns the remedy of a flag that a command refuses; null if it accepts it. Fails if the parser would have to reject it. */
function remedyOf(command: string, flag: string): string | null {
  try {
    const { args, notes, command: name = "" } = normalizeArguments([command, `${flag}=1`], flagsOf);
    const accepted = args[1]?.split("=")[0] ?? "";
    assert.ok(notes.length > 0 || flagsOf.get(name)?.has(accepted), `${command} ${flag} is unknown`);
    return null;
  } catch (error) {
    if (!(error instanceof NextvladError)) throw error;
    return error.details.remedy ?? "";
  }
}

/** Checks the last cell of a flag's row: "an error" if one of the commands refuses the flag, with the flags and keys that the errors name. */
function checkRow(flag: string, commands: readonly string[], meaning: string): void {
  const remedies = commands.map((command) => remedyOf(command, flag)).filter((remedy) => remedy !== null);
  assert.equal(meaning.startsWith("an error"), remedies.length > 0, `${flag}: ${meaning}`);
  assert.ok(remedies.length === 0 || remedies.length === commands.length, `${flag} is refused by some commands only`);
  for (const remedy of remedies)
    for (const named of findAll(remedy, /(--(?!set|filelist|weights)[a-z-]+|(?:MODEL|TRAIN|TEST|INFER)\.[a-z_0-9]+)/g))
      assert.ok(meaning.includes(named), `${flag}: "${meaning}" does not name ${named}`);
}

/** The options of the scripts of PaddleVideo v1.8.0 (`add_argument` in train.py, eval.py, predict.py). */
const PADDLEVIDEO = {
  train: `model_name config batch_size learning_rate pretrain resume use_gpu no_memory_optimize epoch valid_interval save_dir log_interval
    fix_random_seed profiler_path is_profiler`,
  eval: "model_name config batch_size use_gpu weights save_dir log_interval",
  predict: "model_name config use_gpu weights batch_size filelist log_interval infer_topk save_dir video_path",
} as const;

describe("docs/coming-from-paddlevideo.md", () => {
  const PAGE = "docs/coming-from-paddlevideo.md";

  test("lists every flag of PaddleVideo 1.8, says which are accepted, and what the errors for the others say", () => {
    const rows = tableRows(PAGE, "flag");
    const commands = Object.keys(PADDLEVIDEO);
    for (const [i, [command, names]] of Object.entries(PADDLEVIDEO).entries()) {
      const listed = rows.filter((row) => row[i + 1] !== "").map(([flag = ""]) => flag.replaceAll("`", ""));
      assert.deepEqual(
        listed.sort(),
        names
          .split(/\s+/)
          .map((name) => `--${name}`)
          .sort(),
        command,
      );
    }
    for (const row of rows) {
      const used = commands.filter((_, i) => row[i + 1] !== "");
      checkRow(row[0]?.replaceAll("`", "") ?? "", used, row.at(-1) ?? "");
    }
    for (const flag of ["--enable_ce", "--no_use_pyreader"]) assert.equal(remedyOf("train", flag) === null, flag === "--no_use_pyreader");
  });

  test("lists every key of the recipe, whose keys are PaddleVideo 1.8's, with its value", async () => {
    const recipe = readPage("configs/nextvlad.yaml");
    const rows = tableRows(PAGE, "key");
    let section = "";
    const keys: [string, string][] = [];
    for (const line of recipe.split("\n")) {
      const [, name, value = ""] = /^ *(\w+): ?([^#]*)/.exec(line) ?? [];
      if (name === undefined) continue;
      if (line.startsWith(" ")) keys.push([`\`${section}.${name}\``, value.trim().replaceAll('"', "")]);
      else section = name;
    }
    assert.equal(keys.length, 29);
    assert.deepEqual(
      rows.map(([key = "", value = ""]) => [key, value.replaceAll("`", "")]),
      keys.map(([key, value]) => [key, key.includes("eigen_file") ? "a path" : value.replace(/.*\//, "")]),
    );
    // "The same" includes the default.
    const [published, defaults] = [await loadConfig("configs/nextvlad.yaml"), buildConfig({ MODEL: {} }, "defaults")];
    for (const [key = "", , meaning = ""] of rows) {
      if (!/^the same(?!, but)/.test(meaning)) continue;
      const [, part = "", name = ""] = /^`(\w+)\.(\w+)`$/.exec(key) ?? [];
      const valueIn = (config: object): unknown => (config as Record<string, Record<string, unknown>>)[part]?.[name];
      assert.deepEqual(valueIn(defaults), valueIn(published), key);
    }
  });
});

/** The flags of the scripts of google/youtube-8m (commit e6f6bf6), and those of linrongc/youtube-8m (commit 4810b4e) for its NeXtVLAD. */
const YOUTUBE8M = {
  train: `train_dir train_data_pattern feature_names feature_sizes frame_features segment_labels model start_new_model num_gpu batch_size label_loss
    regularization_penalty base_learning_rate learning_rate_decay learning_rate_decay_examples num_epochs max_steps export_model_steps num_readers optimizer
    clip_gradient_norm log_device_placement`,
  eval: "train_dir eval_data_pattern segment_labels batch_size num_readers run_once top_k",
  infer: `train_dir input_data_pattern input_model_tgz untar_model_dir segment_labels segment_max_pred segment_label_ids_file output_file output_model_tgz top_k
    batch_size num_readers`,
} as const;
const NEXTVLAD_FLAGS =
  "nextvlad_cluster_size nextvlad_hidden_size groups expansion drop_rate gating_reduction l2_penalty video_level_classifier_model";

test("docs/coming-from-youtube8m.md lists every flag, and says what the errors say", () => {
  const rows = tableRows("docs/coming-from-youtube8m.md", "flag");
  const nextvladFlags = NEXTVLAD_FLAGS.split(" ").map((name) => `--${name}`);
  for (const [command, names] of Object.entries(YOUTUBE8M)) {
    const listed = rows.filter(([, scripts]) => scripts?.split(", ").includes(command)).map(([flag = ""]) => flag.replaceAll("`", ""));
    const expected = names.split(/\s+/).map((name) => `--${name}`);
    assert.deepEqual(listed.filter((flag) => !nextvladFlags.includes(flag)).sort(), expected.sort(), command);
  }
  for (const [flag = "", scripts = "", meaning = ""] of rows) checkRow(flag.replaceAll("`", ""), scripts.split(", "), meaning);
  for (const flag of nextvladFlags)
    assert.ok(
      rows.some(([listed]) => listed === `\`${flag}\``),
      flag,
    );
});
