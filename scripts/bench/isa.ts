import { type Level, ONEDNN_ISA } from "../../src/runtime/processor.js";

/** The highest instruction set that each library may use: PyTorch's own kernels, MKL, the code that torch.compile compiles, and TensorFlow's XLA. */
interface Limits {
  readonly aten: string;
  readonly mkl: string;
  readonly inductor: string;
  readonly xla: string;
}

/** PyTorch and XLA have no level of their own for AVX-VNNI, and float32 products do not use it. */
const LIMITS: Readonly<Record<Level, Limits>> = {
  v2: { aten: "default", mkl: "SSE4_2", inductor: "x86-64-v2", xla: "SSE4_2" },
  avx2: { aten: "avx2", mkl: "AVX2", inductor: "x86-64-v3", xla: "AVX2" },
  avxvnni: { aten: "avx2", mkl: "AVX2", inductor: "x86-64-v3", xla: "AVX2" },
  avx512: { aten: "avx512", mkl: "AVX512", inductor: "x86-64-v4", xla: "AVX512" },
  avx512vnni: { aten: "avx512", mkl: "AVX512", inductor: "x86-64-v4", xla: "AVX512_VNNI" },
  amx: { aten: "avx512", mkl: "AVX512", inductor: "x86-64-v4", xla: "AMX" },
};

/**
 * Returns the environment variables that hold a process of nextvlad or of a peer to a level; none for null. ATEN_CPU_CAPABILITY selects the vectors in
 * torch.compile's code; without TORCHINDUCTOR_CPP_MARCH, its compiler would still use every instruction of the processor. TensorFlow's own small kernels
 * require AVX at every level.
 */
export function isaEnvironment(isa: Level | null): NodeJS.ProcessEnv {
  if (isa === null) return {};
  const { aten, mkl, inductor, xla } = LIMITS[isa];
  return {
    NEXTVLAD_ISA: isa,
    ONEDNN_MAX_CPU_ISA: ONEDNN_ISA[isa],
    ATEN_CPU_CAPABILITY: aten,
    MKL_ENABLE_INSTRUCTIONS: mkl,
    TORCHINDUCTOR_CPP_MARCH: inductor,
    XLA_FLAGS: `${process.env.XLA_FLAGS ?? ""} --xla_cpu_max_isa=${xla}`.trim(),
  };
}
