import assert from "node:assert/strict";
import { resolve } from "node:path";
import { describe, test } from "node:test";
import { formatScores, readRecipeArguments } from "../../scripts/bench/recipes.js";
import { loadConfig } from "../../src/config/load.js";

describe("the arguments of recipes", () => {
  test("have defaults: all recipes, of valid configs and settings", async () => {
    const { recipes, ...found } = readRecipeArguments(["data"]);
    assert.deepEqual(found, { directory: resolve("data"), seeds: [0, 1, 2], jobs: 2, holdsOut: false });
    assert.deepEqual([recipes[0]?.name, recipes.at(-1)?.name], ["plain", "best"]);
    for (const { config, settings } of recipes) await loadConfig(config, { settings });
  });

  test("select recipes by name", () => {
    const { recipes } = readRecipeArguments(["data", "--only", "mixup,plain", "--hold-out"]);
    assert.deepEqual(
      recipes.map(({ name }) => name),
      ["mixup", "plain"],
    );
  });

  for (const [args, key] of [
    [[], "DIR"],
    [["a", "b"], "DIR"],
    [["a", "--seeds", "none"], "--seeds"],
    [["a", "--only", "mixup,mixdown"], "--only"],
    [["a", "--jobs", "0"], "--jobs"],
  ] as const) {
    test(`${args.join(" ") || "nothing"} is invalid`, () => {
      assert.throws(() => readRecipeArguments(args), { code: "BAD_USAGE", message: new RegExp(`^${key}: `) });
    });
  }
});

test("the table has the mean and the range over the seeds of each recipe", () => {
  const scores = [0.25, 0.26, 0.3].map((map, seed) => ({ name: "plain", seed, map, mauc: 0.9, minutes: seed + 1 }));
  assert.equal(
    formatScores([...scores, { name: "plain, averaged weights", seed: 0, map: 0.31, mauc: 0.95, minutes: 1 }]),
    [
      "| recipe | seeds | full-ranking mAP | mAUC | minutes |",
      "| --- | --- | --- | --- | --- |",
      "| plain | 3 | 0.2700 (0.2500..0.3000) | 0.9000 (0.9000..0.9000) | 2.0 (1.0..3.0) |",
      "| plain, averaged weights | 1 | 0.3100 (0.3100..0.3100) | 0.9500 (0.9500..0.9500) | 1.0 (1.0..1.0) |",
      "",
    ].join("\n"),
  );
});
