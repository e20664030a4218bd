// From the sums over frames to descriptors of length 1 a cluster, and back: what the centres and the expansion's bias add meets the mass only.
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

constexpr Block kBlock = {kWarp, 8};  // clusters.cu: kRows
constexpr float kEpsilon = 1e-12f;    // model/descriptor-norm.ts: L2_EPSILON

Grid GridOf(int64_t clusters, int64_t videos) { return {static_cast<unsigned>((clusters + kWarp - 1) / kWarp), static_cast<unsigned>(videos)}; }

struct Sizes {
  int64_t videos, group_size, clusters, groups;
};

// Inputs: sums [B, P, K], mass [B, G K], bias [G P], centres [K, P]. Outputs: unit [B, P K], 1 / length [B, K].
void Describe(GpuCall& call) {
  const Sizes s{call.Dimension(0, 0), call.Dimension(0, 1), call.Dimension(0, 2), call.Dimension(1, 1) / call.Dimension(0, 2)};
  if (call.Count(1) != s.videos * s.groups * s.clusters || call.Count(2) != s.groups * s.group_size || call.Count(3) != s.clusters * s.group_size) {
    return call.Fail("sums, mass, bias and centres do not fit together");
  }
  float* unit = call.Output(0, {s.videos, s.group_size * s.clusters});
  float* inverse = call.Output(1, {s.videos, s.clusters});
  if (call.failed()) return;
  Launch(Clusters(s.clusters, s.groups), "Describe", GridOf(s.clusters, s.videos), kBlock, 0, call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<const float*>(call.Input<float>(3)),
         kEpsilon, static_cast<int>(s.group_size), unit, inverse);
}

// Inputs: the gradient of unit [B, P K], unit, 1 / length [B, K], mass [B, G K], bias [G P], centres [K, P]. Outputs: the gradients of the sums [B, P, K],
// of the mass [B, G K], of the centres [K, P] and of the bias [G P].
void DescribeGradient(GpuCall& call) {
  const int64_t clusters = call.Dimension(2, 1);
  const Sizes s{call.Dimension(0, 0), call.Dimension(0, 1) / clusters, clusters, call.Dimension(3, 1) / clusters};
  const int64_t count = s.videos * s.group_size * s.clusters;
  if (call.Count(0) != count || call.Count(1) != count || call.Count(2) != s.videos * s.clusters || call.Count(3) != s.videos * s.groups * s.clusters ||
      call.Count(4) != s.groups * s.group_size || call.Count(5) != s.clusters * s.group_size) {
    return call.Fail("gradient, unit, mass, bias and centres do not fit together");
  }
  float* dsums = call.Output(0, {s.videos, s.group_size, s.clusters});
  float* dmass = call.Output(1, {s.videos, s.groups * s.clusters});
  float* dcentres = call.Output(2, {s.clusters, s.group_size});
  float* dbias = call.Output(3, {s.groups * s.group_size});
  if (call.failed()) return;
  const Program program = Clusters(s.clusters, s.groups);
  Launch(program, "DescribeBack", GridOf(s.clusters, s.videos), kBlock, 0, call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<const float*>(call.Input<float>(4)),
         static_cast<const float*>(call.Input<float>(5)), static_cast<int>(s.group_size), dsums, dmass);
  const unsigned most = std::max(1u, std::min<unsigned>(kThreads, static_cast<unsigned>(kSharedBytes / (s.groups * sizeof(float)))));
  const unsigned threads = std::min<unsigned>(most, (static_cast<unsigned>(s.clusters) + kWarp - 1) / kWarp * kWarp);
  Launch(program, "DescribeParameters", {static_cast<unsigned>(s.group_size), 1}, {threads, 1},
         static_cast<unsigned>(s.groups * threads * sizeof(float)), call.stream, static_cast<const float*>(dsums),
         static_cast<const float*>(call.Input<float>(3)), static_cast<int>(s.videos), static_cast<int>(s.group_size), dcentres, dbias);
}

}  // namespace

std::string RegisterDescriptors() {
  std::string problem =
      Define("NextvladDescribe", {"sums: float", "mass: float", "bias: float", "centres: float"}, {"unit: float", "inverse: float"});
  if (problem.empty()) problem = AddKernel("NextvladDescribe", "GPU", Guarded<Describe>);
  if (problem.empty()) {
    problem = Define("NextvladDescribeGradient",
                     {"dunit: float", "unit: float", "inverse: float", "mass: float", "bias: float", "centres: float"},
                     {"dsums: float", "dmass: float", "dcentres: float", "dbias: float"});
  }
  if (problem.empty()) problem = AddKernel("NextvladDescribeGradient", "GPU", Guarded<DescribeGradient>);
  return problem;
}

}  // namespace nextvlad::gpu
