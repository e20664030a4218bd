import assert from "node:assert/strict";
import { test } from "node:test";
import { isaEnvironment } from "../../scripts/bench/isa.js";
import { LEVELS } from "../../src/runtime/processor.js";

test("a level sets the limit of every library", (t) => {
  const flags = process.env.XLA_FLAGS;
  t.after(() => {
    if (flags === undefined) delete process.env.XLA_FLAGS;
    else process.env.XLA_FLAGS = flags;
  });
  delete process.env.XLA_FLAGS;
  assert.deepEqual(isaEnvironment("avx2"), {
    NEXTVLAD_ISA: "avx2",
    ONEDNN_MAX_CPU_ISA: "AVX2",
    ATEN_CPU_CAPABILITY: "avx2",
    MKL_ENABLE_INSTRUCTIONS: "AVX2",
    TORCHINDUCTOR_CPP_MARCH: "x86-64-v3",
    XLA_FLAGS: "--xla_cpu_max_isa=AVX2",
  });
  process.env.XLA_FLAGS = "--xla_dump_to=a";
  assert.equal(isaEnvironment("avx512vnni").XLA_FLAGS, "--xla_dump_to=a --xla_cpu_max_isa=AVX512_VNNI");
});

test("no level below avx512 allows AVX-512 anywhere", () => {
  const below = LEVELS.filter((level) => !level.startsWith("avx512") && level !== "amx");
  assert.equal(below.length, 3);
  for (const level of below) assert.doesNotMatch(JSON.stringify(isaEnvironment(level)), /512|v4/);
});

test("without a level the environment is unchanged", () => {
  assert.deepEqual(isaEnvironment(null), {});
});
