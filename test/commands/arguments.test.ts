import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { normaliseArguments } from "../../src/commands/arguments.js";

test("underscores in flags' names become dashes; values keep theirs", () => {
  assert.deepEqual(
    normaliseArguments([
      "train",
      "--batch_size",
      "8",
      "--save_dir=my_run",
      "--set",
      "TRAIN.batch_size=4",
      "--set=TRAIN.l2_penalty=0",
      "a_b",
    ]),
    ["train", "--batch-size", "8", "--save-dir=my_run", "--set", "TRAIN.batch_size=4", "--set=TRAIN.l2_penalty=0", "a_b"],
  );
});

test("what is no flag is left alone, whatever it is", () => {
  fc.assert(
    fc.property(fc.array(fc.string().filter((text) => !text.startsWith("--"))), (args) => assert.deepEqual(normaliseArguments(args), args)),
  );
});

for (const flag of ["--no_memory_optimize", "--is-profiler=1", "--profiler_path", "--video_path=a_b", "--enable_ce", "--enable-ce"]) {
  test(`${flag} of PaddleVideo's is refused with what to use instead`, () => {
    assert.throws(() => normaliseArguments(["train", flag]), {
      code: "BAD_USAGE",
      exitCode: 2,
      message: /no work to do here\. (Leave it out|Use --)/,
    });
  });
}
