import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { chooseLevel, LEVELS, type Level } from "../../src/runtime/processor.js";
import { formatDevice } from "../../src/runtime/runtime.js";

describe("the processor level", () => {
  const supported: readonly Level[] = ["v2", "avx2", "avx512"];

  test("is the best that is supported", () => {
    const environment = {};
    assert.equal(chooseLevel(supported, environment), "avx512");
    assert.equal(chooseLevel(["v2", "avx2", "avxvnni"], environment), "avxvnni");
    assert.deepEqual(environment, {});
  });

  test("is another one with NEXTVLAD_ISA, also for TensorFlow's products, unless these have a limit already", () => {
    for (const [level, limit] of [
      ["v2", "SSE41"],
      ["avx2", "AVX2"],
      ["avxvnni", "AVX2_VNNI"],
      ["avx512", "AVX512_CORE"],
      ["avx512vnni", "AVX512_CORE_VNNI"],
      ["amx", "AVX512_CORE_AMX"],
    ] as const) {
      const environment: NodeJS.ProcessEnv = { NEXTVLAD_ISA: level };
      assert.equal(chooseLevel(LEVELS, environment), level);
      assert.equal(environment.ONEDNN_MAX_CPU_ISA, limit);
    }
    const environment: NodeJS.ProcessEnv = { NEXTVLAD_ISA: "avx2", ONEDNN_MAX_CPU_ISA: "AVX" };
    chooseLevel(supported, environment);
    assert.equal(environment.ONEDNN_MAX_CPU_ISA, "AVX");
  });

  test("that is unknown or not supported is a usage error that lists the supported ones", () => {
    const list = "expected v2, avx2, avx512";
    for (const [found, message] of [
      [
        "avxvnni",
        `NEXTVLAD_ISA: this processor does not support the level (${list}, found avxvnni). Change or unset this environment variable.`,
      ],
      ["native", `NEXTVLAD_ISA: unknown processor level (${list}, found native). Change or unset this environment variable.`],
      ["", `NEXTVLAD_ISA: unknown processor level (${list}, found ). Change or unset this environment variable.`],
    ] as const) {
      assert.throws(() => chooseLevel(supported, { NEXTVLAD_ISA: found }), { code: "BAD_USAGE", message });
    }
  });

  test("of a processor that supports none is an error, also with NEXTVLAD_ISA", () => {
    for (const environment of [{}, { NEXTVLAD_ISA: "v2" }]) assert.throws(() => chooseLevel([], environment), { code: "UNSUPPORTED_CPU" });
  });

  test("is in the log if the CPU computes", () => {
    const threads = { count: 2, cpus: 2, setBy: null };
    const device = { level: "avx2", reason: "because", threads, tensorflowVersion: "2.21.0" } as const;
    assert.equal(
      formatDevice({ ...device, kind: "cpu", inHostMemory: true }),
      "computing on the CPU at level avx2 (because), TensorFlow 2.21.0",
    );
    assert.equal(formatDevice({ ...device, kind: "gpu", inHostMemory: false }), "computing on the GPU (because), TensorFlow 2.21.0");
  });
});
