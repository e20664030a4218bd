// The descriptor, with each cluster's part scaled to length 1, from the sums over frames, and its gradient. The centers and the expansion's bias contribute
// through a_sum only.
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

constexpr Block kBlock = {kWarp, kDescriptorRows};

Grid GridOf(int64_t clusters, int64_t videos) { return {static_cast<unsigned>((clusters + kWarp - 1) / kWarp), static_cast<unsigned>(videos)}; }

struct Sizes {
  int64_t videos, group_size, clusters, groups;
};

// The number of groups of `clusters` columns.
int64_t GroupsOf(int64_t columns, int64_t clusters) {
  GpuCall::Require(clusters > 0 && columns > 0 && columns % clusters == 0,
                   std::to_string(columns) + " columns do not split into groups of " + std::to_string(clusters) + " clusters");
  return columns / clusters;
}

// Inputs: sums [B, P, K], a_sum [B, G K], bias [G P], centers [K, P], epsilon []. Outputs: unit [B, P K], inverse = 1 / length [B, K].
void Describe(GpuCall& call) {
  const auto shape = call.Expect(0, {GpuCall::kAny, GpuCall::kAny, GpuCall::kAny});
  const Sizes s{shape[0], shape[1], shape[2], GroupsOf(call.Expect(1, {shape[0], GpuCall::kAny})[1], shape[2])};
  call.Expect(2, {s.groups * s.group_size});
  call.Expect(3, {s.clusters, s.group_size});
  call.ExpectCount(4, 1);
  float* unit = call.Output(0, {s.videos, s.group_size * s.clusters});
  float* inverse = call.Output(1, {s.videos, s.clusters});
  Launch(Clusters(s.clusters, s.groups), "Describe", GridOf(s.clusters, s.videos), kBlock, 0, call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<const float*>(call.Input<float>(3)),
         static_cast<const float*>(call.Input<float>(4)), static_cast<int>(s.group_size), unit, inverse);
}

// Inputs: the gradient of unit [B, P K], unit, inverse [B, K], a_sum [B, G K], bias [G P], centers [K, P]. Outputs: the gradients of sums [B, P, K],
// a_sum [B, G K], centers [K, P] and bias [G P].
void DescribeGradient(GpuCall& call) {
  const auto centers = call.Expect(5, {GpuCall::kAny, GpuCall::kAny}), a_sum = call.Expect(3, {GpuCall::kAny, GpuCall::kAny});
  const Sizes s{a_sum[0], centers[1], centers[0], GroupsOf(a_sum[1], centers[0])};
  for (int i = 0; i <= 1; i++) call.Expect(i, {s.videos, s.group_size * s.clusters});
  call.Expect(2, {s.videos, s.clusters});
  call.Expect(4, {s.groups * s.group_size});
  float* dsums = call.Output(0, {s.videos, s.group_size, s.clusters});
  float* da_sum = call.Output(1, {s.videos, s.groups * s.clusters});
  float* dcenters = call.Output(2, {s.clusters, s.group_size});
  float* dbias = call.Output(3, {s.groups * s.group_size});
  const Program program = Clusters(s.clusters, s.groups);
  Launch(program, "DescribeBackward", GridOf(s.clusters, s.videos), kBlock, 0, call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<const float*>(call.Input<float>(4)),
         static_cast<const float*>(call.Input<float>(5)), static_cast<int>(s.group_size), dsums, da_sum);
  const unsigned max_threads = std::max(1u, std::min<unsigned>(kThreads, static_cast<unsigned>(kSharedBytes / (s.groups * sizeof(float)))));
  const unsigned threads = std::min<unsigned>(max_threads, (static_cast<unsigned>(s.clusters) + kWarp - 1) / kWarp * kWarp);
  Launch(program, "DescribeParameters", {static_cast<unsigned>(s.group_size), 1}, {threads, 1},
         static_cast<unsigned>(s.groups * threads * sizeof(float)), call.stream, static_cast<const float*>(dsums),
         static_cast<const float*>(call.Input<float>(3)), static_cast<int>(s.videos), static_cast<int>(s.group_size), dcenters, dbias);
}

}  // namespace

// The ops are defined in ../descriptor.cc.
std::string RegisterDescriptors() {
  const std::string problem = AddKernel("NextvladDescribe", "GPU", Guarded<GpuCall, Describe>);
  return problem.empty() ? AddKernel("NextvladDescribeGradient", "GPU", Guarded<GpuCall, DescribeGradient>) : problem;
}

}  // namespace nextvlad::gpu
