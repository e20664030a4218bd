import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { LEVELS, type Level } from "../../src/runtime/processor.js";
import { loadTensorflow, runtime } from "../../src/runtime/runtime.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, repository, runProgram, spawnNextvlad } from "../helpers/nextvlad.js";

const COMPAT = join(repository, "test/golden/compat/059705b");
const evalArgs = (saveDir: string): string[] => [
  ...["eval", "--config", `${COMPAT}/config.yaml`, "--weights", `${COMPAT}/exported.npz`],
  ...["--filelist", `${COMPAT}/train0.tfrecord`, "--save-dir", saveDir],
];

/** The processor's flags that each level requires, as /proc/cpuinfo names them. */
const AVX2 = ["sse4_2", "popcnt", "avx", "avx2", "fma"];
const AVX512 = [...AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];
const REQUIRED_FLAGS: Readonly<Record<Level, readonly string[]>> = {
  v2: ["sse4_2", "popcnt", "avx"],
  avx2: AVX2,
  avxvnni: [...AVX2, "avx_vnni"],
  avx512: AVX512,
  avx512vnni: [...AVX512, "avx512_vnni"],
  amx: [...AVX512, "avx512_vnni", "amx_tile", "amx_int8"],
};
const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.trim().split(" ") ?? [];
const supported = LEVELS.filter((level) => REQUIRED_FLAGS[level].every((flag) => flags.includes(flag)));

describe("on this machine", () => {
  before(() => loadTensorflow(false));

  test("the level is the best whose flags are in /proc/cpuinfo, and the kernels are compiled for it", () => {
    const { native, device } = runtime();
    assert.equal(device.level, process.env.NEXTVLAD_ISA ?? supported.at(-1));
    assert.equal(native.vectorBits, { v2: 128, avx2: 256, avxvnni: 256, avx512: 512, avx512vnni: 512, amx: 512 }[device.level]);
    assert.equal(native.byteInstructions, device.level.endsWith("vnni") || device.level === "amx");
  });

  test("each build of the kernels uses the registers and instructions of its level, and no others", () => {
    const tools = spawnSync("objdump", ["--version"]);
    assert.equal(tools.status, 0, "objdump, which g++ requires too");
    const patterns = { ymm: /%ymm/, zmm: /%zmm/, fma: /\tvfmadd/, vnni: /\t(\{vex\} )?vpdpbusd/, amx: /\ttdpbusd/ };
    const usedBy = (name: string): string[] => {
      const { stdout } = spawnSync("objdump", ["-d", "--no-show-raw-insn", join(repository, ".native/current", `${name}.node`)], {
        encoding: "utf8",
        maxBuffer: 2 ** 28,
      });
      assert.ok(stdout.length > 1000, name);
      return Object.entries(patterns).flatMap(([feature, pattern]) => (pattern.test(stdout) ? [feature] : []));
    };
    assert.deepEqual(Object.fromEntries(LEVELS.map((level) => [level, usedBy(`kernels-${level}`)])), {
      v2: [],
      avx2: ["ymm", "fma"],
      avxvnni: ["ymm", "fma", "vnni"],
      avx512: ["ymm", "zmm", "fma"],
      avx512vnni: ["ymm", "zmm", "fma", "vnni"],
      amx: ["ymm", "zmm", "fma", "vnni", "amx"],
    });
    for (const name of ["loader", "processor", "tfjs_binding"]) assert.deepEqual(usedBy(name), [], name);
  });

  test("the kernels and the network pass their tests at every other level", async () => {
    const { device } = runtime();
    const files = ["kernels/kernels", "kernels/native-ops", "kernels/kernel-errors", "kernels/byte-products", "training/golden"].map(
      (name) => join(repository, `dist/test/${name}.test.js`),
    );
    for (const level of supported.filter((each) => each !== device.level)) {
      // Without NODE_TEST_CONTEXT: the tests would report to the runner of this file.
      const env = { ...process.env, NEXTVLAD_ISA: level, NODE_TEST_CONTEXT: undefined };
      const { exitCode, stdout } = await runProgram(process.execPath, ["--test", ...files], { env, timeout: 600_000 });
      assert.equal(exitCode, 0, `${level}: ${stdout}`);
    }
  });

  test("an unknown level is an error of the command", async (t) => {
    const env = { ...process.env, NEXTVLAD_ISA: "avx1024" };
    const { exitCode, error } = await spawnNextvlad(evalArgs(temporaryFolder(t)), { env });
    assert.equal(exitCode, 2, error);
    assert.equal(
      error,
      `NEXTVLAD_ISA: unknown processor level (expected ${supported.join(", ")}, found avx1024). Change or unset this environment variable.`,
    );
  });
});

const qemu = ["qemu-x86_64-static", "qemu-x86_64"].find((name) => spawnSync(name, ["--version"]).status === 0);

describe("on an emulated processor", { skip: qemu === undefined && "qemu-x86_64 is missing: apt-get install qemu-user-static" }, () => {
  const emulate = (cpu: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) =>
    runProgram(qemu as string, ["-cpu", cpu, process.execPath, ...args], {
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, NEXTVLAD_ISA: undefined, ...environment },
      timeout: 600_000,
    });

  test("without AVX, a command that computes is an error instead of SIGILL", async (t) => {
    const { exitCode, stderr } = await emulate("Nehalem", [compiled("nextvlad.cjs"), ...evalArgs(temporaryFolder(t))]);
    assert.equal(exitCode, 1, stderr);
    assert.match(
      stderr,
      /\nerror\[UNSUPPORTED_CPU\]: this processor lacks AVX, which TensorFlow requires\n {2}help: use another machine; .*\n$/,
    );
  });

  // One golden test only: emulated, all of training/golden.test.ts takes about 20 minutes.
  test("with AVX2 and no AVX-512, the network has Paddle's predictions, and a resumed run has the same results", async () => {
    for (const [file, tests, pattern] of [
      ["training/golden", 1, "drop_rate 0$"],
      ["end-to-end/compat", 16, ""],
    ] as const) {
      const flags = ["--test-reporter", "tap", "--test-name-pattern", pattern];
      const { exitCode, stdout } = await emulate("Haswell", [...flags, join(repository, `dist/test/${file}.test.js`)]);
      assert.equal(exitCode, 0, stdout);
      assert.match(stdout, new RegExp(`^# pass ${tests}$`, "m"), stdout);
    }
  });
});
