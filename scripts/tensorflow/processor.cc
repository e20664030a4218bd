// A Node-API module that is loaded before TensorFlow and the kernels, to choose the kernels' build for this processor. It is compiled for any x86-64 processor.
#include <cpuid.h>
#include <node_api.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// AVX-VNNI is bit 4 of EAX in CPUID's leaf 7, subleaf 1 (Intel's Instruction Set Extensions reference). __builtin_cpu_supports knows it from g++ 11 on only.
bool HasAvxVnni() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1u << 4) != 0;
}

// AMX-TILE and AMX-INT8 are bits 24 and 25 of EDX in leaf 7. Linux (from 5.16 on) lets a process use the tile registers once it has asked (arch/x86/xstate.rst).
bool HasAmx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & 1u << 24) == 0 || (edx & 1u << 25) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

// Its export `levels` is typed in src/runtime/processor.ts: the names of the levels that can run here, the best last; none without AVX, which TensorFlow requires.
// The compiler's flags for each are in scripts/setup.sh. g++'s functions also check that the operating system saves the registers.
NAPI_MODULE_INIT() {
  __builtin_cpu_init();
  const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("avx");
  const bool avx2 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx512vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  const struct {
    const char* name;
    bool supported;
  } levels[] = {
      {"v2", v2},
      {"avx2", avx2},
      {"avxvnni", avx2 && HasAvxVnni()},
      {"avx512", avx512},
      {"avx512vnni", avx512vnni},
      {"amx", avx512vnni && HasAmx()},
  };
  napi_value list, name;
  uint32_t count = 0;
  napi_create_array(env, &list);
  for (const auto& level : levels) {
    if (level.supported && napi_create_string_utf8(env, level.name, NAPI_AUTO_LENGTH, &name) == napi_ok) napi_set_element(env, list, count++, name);
  }
  napi_set_named_property(env, exports, "levels", list);
  return exports;
}
