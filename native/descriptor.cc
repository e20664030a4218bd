// The descriptor, with each cluster's part scaled to length 1, from the sums over frames, and its gradient, in one pass over a video's values each. The centers
// and the expansion's bias contribute through a_sum only. For B videos: sums [B, P, K], a_sum [B, G K], bias [G P], centers [K, P].
#include <cmath>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

namespace nextvlad {
namespace {

struct Sizes {
  int64_t videos, group_size, clusters, groups;

  Sizes(Call& call, int a_sum, int centers) {
    const auto shape = call.Expect(centers, {Call::kAny, Call::kAny}), sums = call.Expect(a_sum, {Call::kAny, Call::kAny});
    videos = sums[0], group_size = shape[1], clusters = shape[0];
    Call::Require(clusters > 0 && sums[1] > 0 && sums[1] % clusters == 0,
                  std::to_string(sums[1]) + " columns do not split into groups of " + std::to_string(clusters) + " clusters");
    groups = sums[1] / clusters;
  }
};

// centers [K, P] as [P, K].
std::vector<float> Transposed(const float* centers, const Sizes& s) {
  std::vector<float> transposed(s.group_size * s.clusters);
  for (int64_t k = 0; k < s.clusters; k++) {
    for (int64_t p = 0; p < s.group_size; p++) transposed[p * s.clusters + k] = centers[k * s.group_size + p];
  }
  return transposed;
}

// Calls body(zero, k) for each register of [0, count), with zero a Simd, and for each value left, with zero a float. Inner loops over a video's few clusters would
// spend most of their time on starting and ending.
template <class Body>
[[gnu::always_inline]] inline void ForRegisters(int64_t count, const Body& body) {
  int64_t k = 0;
  for (; k + kSimdLanes <= count; k += kSimdLanes) body(Simd{}, k);
  for (; k < count; k++) body(0.0f, k);
}

float Dot(const float* a, const float* b, int64_t count) {
  Simd sums{};
  int64_t k = 0;
  for (; k + kSimdLanes <= count; k += kSimdLanes) sums += LoadSimd(a + k) * LoadSimd(b + k);
  float sum = SumOfLanes(sums);
  for (; k < count; k++) sum += a[k] * b[k];
  return sum;
}

// Inputs: sums, a_sum, bias, centers, epsilon []. Outputs: unit [B, P K], inverse = 1 / length [B, K].
void Describe(Call& call) {
  const Sizes s(call, 1, 3);
  call.Expect(0, {s.videos, s.group_size, s.clusters});
  call.Expect(2, {s.groups * s.group_size});
  call.ExpectCount(4, 1);
  const float* sums = call.Input<float>(0);
  const float* a_sums = call.Input<float>(1);
  const float* bias = call.Input<float>(2);
  const std::vector<float> centers = Transposed(call.Input<float>(3), s);
  const float epsilon = *call.Input<float>(4);
  const int64_t clusters = s.clusters, size = s.group_size * clusters;
  float* units = call.Output(0, {s.videos, size});
  float* inverses = call.Output(1, {s.videos, clusters});
  ForEachItem(s.videos, [&](const auto& next) {
    for (int64_t video; next(&video);) {
      const float *sum = sums + video * size, *a_sum = a_sums + video * s.groups * clusters;
      float *unit = units + video * size, *inverse = inverses + video * clusters;
      ForRegisters(clusters, [&](auto zero, int64_t k) {
        using V = decltype(zero);
        V total = zero, squares = zero;
        for (int64_t g = 0; g < s.groups; g++) total += LoadAs<V>(a_sum + g * clusters + k);
        for (int64_t p = 0; p < s.group_size; p++) {
          const int64_t at = p * clusters + k;
          V v = LoadAs<V>(sum + at) - total * LoadAs<V>(centers.data() + at);
          for (int64_t g = 0; g < s.groups; g++) v += bias[g * s.group_size + p] * LoadAs<V>(a_sum + g * clusters + k);
          Store(unit + at, v);
          squares += v * v;
        }
        Store(inverse + k, squares);
      });
#pragma omp simd
      for (int64_t k = 0; k < clusters; k++) inverse[k] = 1 / std::sqrt(inverse[k] + epsilon);
      ForRegisters(clusters, [&](auto zero, int64_t k) {
        using V = decltype(zero);
        const V factor = LoadAs<V>(inverse + k);
        for (int64_t at = k; at < size; at += clusters) Store(unit + at, LoadAs<V>(unit + at) * factor);
      });
    }
  });
}

// Inputs: the gradient of unit [B, P K], unit, inverse [B, K], a_sum, bias, centers. Outputs: the gradients of sums, a_sum, centers and bias.
void DescribeGradient(Call& call) {
  const Sizes s(call, 3, 5);
  const int64_t clusters = s.clusters, size = s.group_size * clusters;
  for (int i = 0; i <= 1; i++) call.Expect(i, {s.videos, size});
  call.Expect(2, {s.videos, clusters});
  call.Expect(4, {s.groups * s.group_size});
  const float* dunits = call.Input<float>(0);
  const float* units = call.Input<float>(1);
  const float* inverses = call.Input<float>(2);
  const float* a_sums = call.Input<float>(3);
  const float* bias = call.Input<float>(4);
  const std::vector<float> centers = Transposed(call.Input<float>(5), s);
  float* dsums = call.Output(0, {s.videos, s.group_size, clusters});
  float* da_sums = call.Output(1, {s.videos, s.groups * clusters});
  float* dcenters = call.Output(2, {clusters, s.group_size});
  float* dbias = call.Output(3, {s.groups * s.group_size});

  // Each thread sums the parameters' gradients over its videos: those of the centers as [P, K].
  const int threads = Pool::Shared().threads();
  std::vector<Floats> center_sums(threads, Floats(size, 0.0f)), bias_sums(threads, Floats(s.groups * s.group_size, 0.0f));
  ParallelFor(s.videos, [&](int64_t begin, int64_t end, int piece) {
    float *center_sum = center_sums[piece].data(), *bias_sum = bias_sums[piece].data();
    for (int64_t video = begin; video < end; video++) {
      const float *dunit = dunits + video * size, *unit = units + video * size, *inverse = inverses + video * clusters;
      const float* a_sum = a_sums + video * s.groups * clusters;
      float *dv = dsums + video * size, *da_sum = da_sums + video * s.groups * clusters;
      ForRegisters(clusters, [&](auto zero, int64_t k) {
        using V = decltype(zero);
        V total = zero, along = zero, through_centers = zero;
        for (int64_t g = 0; g < s.groups; g++) total += LoadAs<V>(a_sum + g * clusters + k);
        for (int64_t at = k; at < size; at += clusters) along += LoadAs<V>(dunit + at) * LoadAs<V>(unit + at);
        const V factor = LoadAs<V>(inverse + k);
        for (int64_t at = k; at < size; at += clusters) {
          const V d = (LoadAs<V>(dunit + at) - along * LoadAs<V>(unit + at)) * factor;
          Store(dv + at, d);
          through_centers += d * LoadAs<V>(centers.data() + at);
          Store(center_sum + at, LoadAs<V>(center_sum + at) - d * total);
        }
        for (int64_t g = 0; g < s.groups; g++) {
          V da = zero;
          for (int64_t p = 0; p < s.group_size; p++) da += bias[g * s.group_size + p] * LoadAs<V>(dv + p * clusters + k);
          Store(da_sum + g * clusters + k, da - through_centers);
        }
      });
      for (int64_t g = 0; g < s.groups; g++) {
        for (int64_t p = 0; p < s.group_size; p++) bias_sum[g * s.group_size + p] += Dot(a_sum + g * clusters, dv + p * clusters, clusters);
      }
    }
  });
  for (int64_t k = 0; k < clusters; k++) {
    for (int64_t p = 0; p < s.group_size; p++) {
      float sum = 0;
      for (const Floats& part : center_sums) sum += part[p * clusters + k];
      dcenters[k * s.group_size + p] = sum;
    }
  }
  for (int64_t i = 0; i < s.groups * s.group_size; i++) {
    float sum = 0;
    for (const Floats& part : bias_sums) sum += part[i];
    dbias[i] = sum;
  }
}

}  // namespace

std::string RegisterDescriptor() {
  const std::string problem =
      Register<Describe>("NextvladDescribe", {"sums: float", "a_sum: float", "bias: float", "centers: float", "epsilon: float"}, {"unit: float", "inverse: float"});
  if (!problem.empty()) return problem;
  return Register<DescribeGradient>("NextvladDescribeGradient",
                                    {"dunit: float", "unit: float", "inverse: float", "a_sum: float", "bias: float", "centers: float"},
                                    {"dsums: float", "da_sum: float", "dcenters: float", "dbias: float"});
}

}  // namespace nextvlad
