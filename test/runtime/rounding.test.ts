import assert from "node:assert/strict";
import { test } from "node:test";
import { describeProcessor, type Rounding, roundingOf, roundingWarning } from "../../src/runtime/rounding.js";

const SAVED = { software: "TensorFlow 2.21.0 on the CPU", level: "avx512", threads: 2 };

test("a run with another level or number of threads is warned about, with the settings that restore them", () => {
  const warn = (changes: Partial<typeof SAVED>) => roundingWarning("the snapshot was written", SAVED, { ...SAVED, ...changes });
  assert.equal(warn({}), null);
  const saved = "the snapshot was written with TensorFlow 2.21.0 on the CPU (level avx512, 2 threads), and this run uses";
  assert.equal(
    warn({ threads: 1 }),
    `${saved} TensorFlow 2.21.0 on the CPU (level avx512, 1 thread): the last digits will differ; to restore them, use --threads 2`,
  );
  assert.equal(
    warn({ level: "v2", threads: 16 }),
    `${saved} TensorFlow 2.21.0 on the CPU (level v2, 16 threads): the last digits will differ; to restore them, use NEXTVLAD_ISA=avx512 and --threads 2`,
  );
  // Other software rounds differently with any settings.
  assert.equal(
    warn({ software: "TensorFlow 2.20.0 on the CPU", threads: 1 }),
    `${saved} TensorFlow 2.20.0 on the CPU (level avx512, 1 thread): the last digits will differ`,
  );
});

test("an unknown level or number of threads is not warned about", () => {
  const old: Rounding = { software: SAVED.software };
  assert.equal(roundingWarning("the snapshot was written", old, SAVED), null);
  assert.equal(describeProcessor(old), "");
  assert.match(
    roundingWarning("the snapshot was written", old, { ...SAVED, software: "TensorFlow 2.21.0 on the GPU" }) ?? "",
    /written with TensorFlow 2\.21\.0 on the CPU, and this run uses TensorFlow 2\.21\.0 on the GPU \(level avx512/,
  );
});

test("level and number of threads have no effect on a GPU", () => {
  const threads = { count: 2, cpus: 2, setBy: null };
  const device = { inHostMemory: true, reason: "", level: "avx512", threads, tensorflowVersion: "2.21.0" } as const;
  assert.deepEqual(roundingOf({ ...device, kind: "cpu" }), SAVED);
  assert.deepEqual(roundingOf({ ...device, kind: "gpu" }), { software: "TensorFlow 2.21.0 on the GPU" });
});
