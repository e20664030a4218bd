// Values that are updated where they are, as native/updates.cc does it on the CPU.
#include "../adam.h"
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

void Adam(GpuCall& call) {
  const int64_t count = call.Count(0);
  if (call.Count(1) != count || call.Count(2) != count || call.Count(3) != count || call.Count(4) != kAdamCoefficients) {
    return call.Fail("w, m, v, gradient and coefficients do not fit together");
  }
  const AdamCoefficients c = ReadCoefficients(call.Input<int32_t>(4));
  Launch(Updates(), "Adam", GridFor((count + 3) / 4), {kThreads, 1}, 0, call.stream, call.Input<float>(0), call.Input<float>(1), call.Input<float>(2),
         static_cast<const float*>(call.Input<float>(3)), c, static_cast<long long>(count));
}

void Blend(GpuCall& call) {
  const int64_t columns = call.Count(0);
  if (call.Count(1) != columns || call.Count(2) != columns || call.Count(3) != columns) return call.Fail("the statistics do not fit together");
  Launch(Updates(), "Blend", {static_cast<unsigned>((columns + kThreads - 1) / kThreads), 1}, {kThreads, 1}, 0, call.stream, call.Input<float>(0),
         call.Input<float>(1), static_cast<const float*>(call.Input<float>(2)), static_cast<const float*>(call.Input<float>(3)),
         static_cast<const float*>(call.Input<float>(4)), static_cast<int>(columns));
}

}  // namespace

std::string RegisterUpdates() {
  std::string problem = AddKernel("NextvladAdam", "GPU", Guarded<Adam>, {"coefficients"});
  if (problem.empty()) problem = AddKernel("NextvladBlend", "GPU", Guarded<Blend>);
  return problem;
}

}  // namespace nextvlad::gpu
