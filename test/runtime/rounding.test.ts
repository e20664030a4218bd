import assert from "node:assert/strict";
import { test } from "node:test";
import { describeComputation, roundingOf, roundingWarning, type TrainingRounding } from "../../src/runtime/rounding.js";

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

test("a training run with another number of ranks or parts is warned about; one rank or part is not described", () => {
  const alone = { ...SAVED, ranks: 1, parts: 1 };
  const warn = (saved: TrainingRounding, current: TrainingRounding) => roundingWarning("it was written", saved, current) ?? "";
  assert.equal(roundingWarning("it was written", { ...alone, ranks: 2, parts: 4 }, { ...alone, ranks: 2, parts: 4 }), null);
  assert.equal(
    warn({ ...alone, ranks: 2 }, { ...alone, parts: 4 }),
    "it was written with TensorFlow 2.21.0 on the CPU (level avx512, 2 threads, 2 ranks), and this run uses " +
      "TensorFlow 2.21.0 on the CPU (level avx512, 2 threads, 4 parts): the last digits will differ; to restore them, use --devices 2 and --accumulate 1",
  );
  assert.match(
    warn(alone, { ...alone, level: "v2", threads: 1, ranks: 3, parts: 2 }),
    /use NEXTVLAD_ISA=avx512, --threads 2, --devices 1 and --accumulate 1$/,
  );
  // On a GPU, only the ranks and parts are known.
  const gpu = { software: "TensorFlow 2.21.0 on the GPU", ranks: 1, parts: 1 };
  assert.match(
    warn({ ...gpu, ranks: 2 }, gpu),
    /on the GPU \(2 ranks\), and this run uses TensorFlow 2\.21\.0 on the GPU: .* use --devices 2$/,
  );
});

test("an unknown level or number of threads, ranks or parts is not warned about", () => {
  const old: TrainingRounding = { software: SAVED.software };
  assert.equal(roundingWarning("the snapshot was written", old, { ...SAVED, ranks: 2, parts: 2 }), null);
  assert.equal(describeComputation(old), "");
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
