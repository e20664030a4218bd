import { NextvladError } from "../base/errors.js";

/**
 * Levels of x86-64 processors for which native/ is compiled, the best last (scripts/setup.sh has the compiler's flags). v2 has SSE4.2; avx2 has AVX2 and FMA;
 * avxvnni also multiplies bytes; avx512 has AVX512-F, BW, CD, DQ and VL, but not all such processors have AVX-VNNI; avx512vnni also multiplies bytes; amx
 * also has AMX-TILE and AMX-INT8.
 */
export const LEVELS = ["v2", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"] as const;
export type Level = (typeof LEVELS)[number];

/** The environment variable that selects another level than the best. */
export const LEVEL_VARIABLE = "NEXTVLAD_ISA";

/** Values of oneDNN's variable ONEDNN_MAX_CPU_ISA, which limits TensorFlow's matrix products to a level (oneDNN's "CPU Dispatcher Control"). */
export const ONEDNN_ISA: Readonly<Record<Level, string>> = {
  v2: "SSE41",
  avx2: "AVX2",
  avxvnni: "AVX2_VNNI",
  avx512: "AVX512_CORE",
  avx512vnni: "AVX512_CORE_VNNI",
  amx: "AVX512_CORE_AMX",
};

/**
 * Returns the level to compute at: the best of `supported`, the levels that scripts/tensorflow/processor.cc found, or NEXTVLAD_ISA. With NEXTVLAD_ISA, sets
 * ONEDNN_MAX_CPU_ISA in `environment` if it is not set, so that TensorFlow's matrix products are limited too. Call it before TensorFlow is loaded.
 * Throws UNSUPPORTED_CPU if no level is supported, BAD_USAGE if NEXTVLAD_ISA is not one of them.
 */
export function chooseLevel(supported: readonly Level[], environment: NodeJS.ProcessEnv): Level {
  const best = supported.at(-1);
  if (best === undefined) {
    // TensorFlow's library ends the process with SIGILL.
    const remedy = "use another machine; in a virtual machine, enable AVX in its settings (QEMU and libvirt: CPU type host)";
    throw new NextvladError("UNSUPPORTED_CPU", "this processor lacks AVX, which TensorFlow requires", { remedy });
  }
  const found = environment[LEVEL_VARIABLE];
  if (found === undefined) return best;
  const level = supported.find((name) => name === found);
  if (level === undefined) {
    const what = LEVELS.some((name) => name === found) ? "this processor does not support the level" : "unknown processor level";
    const remedy = "change or unset this environment variable";
    throw new NextvladError("BAD_USAGE", what, { key: LEVEL_VARIABLE, expected: supported.join(", "), found, remedy });
  }
  environment.ONEDNN_MAX_CPU_ISA ??= ONEDNN_ISA[level];
  return level;
}

/** Maximum float32 operations per cycle of a core: two multiply-adds of vectors of 4, 8 or 16. Cores with one AVX-512 unit reach half. */
const OPERATIONS_PER_CYCLE: Readonly<Record<Level, number>> = { v2: 16, avx2: 32, avxvnni: 32, avx512: 64, avx512vnni: 64, amx: 64 };

/** Returns the maximum 10^9 float32 operations per second of `threads` cores; null if their frequency is unknown. `cpuinfo`: the text of /proc/cpuinfo. */
export function peakGigaflops(level: Level, threads: number, cpuinfo: string): number | null {
  const megahertz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(cpuinfo)?.[1];
  return megahertz === undefined ? null : (threads * Number(megahertz) * OPERATIONS_PER_CYCLE[level]) / 1000;
}
