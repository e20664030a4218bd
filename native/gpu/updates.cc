// In-place updates, as in native/updates.cc.
#include "../adam.h"
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

void Adam(GpuCall& call) {
  const int64_t count = call.Count(0);
  for (int i = 1; i <= 3; i++) call.ExpectCount(i, count);
  call.Expect(4, {kAdamCoefficients});
  const AdamCoefficients c = ReadCoefficients(call.Input<int32_t>(4));
  Launch(Updates(), "Adam", GridFor((count + 3) / 4), {kThreads, 1}, 0, call.stream, call.Input<float>(0), call.Input<float>(1), call.Input<float>(2),
         static_cast<const float*>(call.Input<float>(3)), c, static_cast<long long>(count));
}

void Blend(GpuCall& call) {
  const int64_t count = call.Count(0);
  call.ExpectCount(1, count);
  call.ExpectCount(2, 1);
  Launch(Updates(), "Blend", GridFor(count), {kThreads, 1}, 0, call.stream, call.Input<float>(0), static_cast<const float*>(call.Input<float>(1)),
         static_cast<const float*>(call.Input<float>(2)), static_cast<long long>(count));
}

}  // namespace

std::string RegisterUpdates() {
  std::string problem = AddKernel("NextvladAdam", "GPU", Guarded<GpuCall, Adam>, {"coefficients"});
  if (problem.empty()) problem = AddKernel("NextvladBlend", "GPU", Guarded<GpuCall, Blend>);
  return problem;
}

}  // namespace nextvlad::gpu
