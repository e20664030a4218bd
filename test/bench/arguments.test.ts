import assert from "node:assert/strict";
import { resolve } from "node:path";
import { describe, test } from "node:test";
import { readArguments } from "../../scripts/bench/arguments.js";
import { FULL_SIZE } from "../../scripts/bench/checkout.js";

describe("the arguments of the bench", () => {
  test("have defaults", () => {
    assert.deepEqual(readArguments(["infer"]), {
      mode: "infer",
      config: FULL_SIZE,
      batch: 32,
      frames: 300,
      steps: 5,
      fromShards: false,
      videos: 20_000,
      precision: "float32",
      isa: null,
      useGpu: false,
      readers: [2],
      pairs: 5,
      peers: null,
      against: null,
      frameworks: ["tf", "torch", "torch-compile"],
      json: false,
    });
  });

  test("are parsed", () => {
    const found = readArguments(["train", "--config", "a.yaml", "--isa", "avx2", "--frames", "10", "--from-shards", "--videos", "64"]);
    assert.deepEqual(
      [found?.config, found?.isa, found?.frames, found?.fromShards, found?.videos],
      [resolve("a.yaml"), "avx2", 10, true, 64],
    );
    assert.deepEqual(readArguments(["read", "--readers", "2,4,8,16"])?.readers, [2, 4, 8, 16]);
    assert.deepEqual(readArguments(["train", "--use-gpu", "--precision", "tf32"])?.frameworks, ["torch", "torch-compile"]);
  });

  test("2,000 videos come from shards, unless another number is given", () => {
    assert.equal(readArguments(["infer", "--from-shards"])?.videos, 2000);
  });

  test("--help comes before everything else", () => {
    assert.equal(readArguments(["paint", "--help"]), null);
  });

  const invalid: readonly (readonly [string, string])[] = [
    ["", "mode"],
    ["paint", "mode"],
    ["train infer", "mode"],
    ["train --batch 0", "--batch"],
    ["train --frames many", "--frames"],
    ["train --isa avx", "--isa"],
    ["train --isa avx2 --use-gpu", "--isa"],
    ["train --precision int8", "--precision"],
    ["infer --precision half", "--precision"],
    ["infer --use-gpu --precision int8", "--precision"],
    ["infer --frameworks tf,jax", "--frameworks"],
    ["infer --use-gpu --frameworks tf", "--frameworks"],
    ["read --readers 2,0", "--readers"],
    ["read --readers 65", "--readers"],
    ["infer --videos 5", "--videos"],
    // Options of other modes.
    ["read --isa avx2", "--isa"],
    ["read --videos 5", "--videos"],
    ["read --frames 10", "--frames"],
    ["metrics --batch 8", "--batch"],
    ["metrics --config a.yaml", "--config"],
    ["metrics --from-shards", "--from-shards"],
    ["infer --readers 4", "--readers"],
  ];
  for (const [line, key] of invalid) {
    test(`${line || "nothing"} is invalid`, () => {
      assert.throws(() => readArguments(line.split(" ").filter((word) => word !== "")), {
        code: "BAD_USAGE",
        message: new RegExp(`^${key}: `),
      });
    });
  }

  test("an unknown option is invalid", () => {
    assert.throws(() => readArguments(["train", "--bach", "8"]), { code: "BAD_USAGE", message: /--bach/ });
  });
});
