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

// to [K] = a_sum summed over groups.
void SumGroups(const float* a_sum, const Sizes& s, float* to) {
  std::fill(to, to + s.clusters, 0.0f);
  for (int64_t g = 0; g < s.groups; g++) {
#pragma omp simd
    for (int64_t k = 0; k < s.clusters; k++) to[k] += a_sum[g * s.clusters + k];
  }
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
    Floats total(clusters), squares(clusters);
    for (int64_t video; next(&video);) {
      const float* a_sum = a_sums + video * s.groups * clusters;
      float* unit = units + video * size;
      float* inverse = inverses + video * clusters;
      SumGroups(a_sum, s, total.data());
      std::fill(squares.begin(), squares.end(), 0.0f);
      for (int64_t p = 0; p < s.group_size; p++) {
        float* v = unit + p * clusters;
        const float *from = sums + video * size + p * clusters, *c = centers.data() + p * clusters;
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) v[k] = from[k] - total[k] * c[k];
        for (int64_t g = 0; g < s.groups; g++) {
          const float b = bias[g * s.group_size + p];
#pragma omp simd
          for (int64_t k = 0; k < clusters; k++) v[k] += b * a_sum[g * clusters + k];
        }
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) squares[k] += v[k] * v[k];
      }
      for (int64_t k = 0; k < clusters; k++) inverse[k] = 1 / std::sqrt(squares[k] + epsilon);
      for (int64_t p = 0; p < s.group_size; p++) {
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) unit[p * clusters + k] *= inverse[k];
      }
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
    Floats total(clusters), along(clusters), through_centers(clusters);
    for (int64_t video = begin; video < end; video++) {
      const float *dunit = dunits + video * size, *unit = units + video * size, *inverse = inverses + video * clusters;
      const float* a_sum = a_sums + video * s.groups * clusters;
      float* da_sum = da_sums + video * s.groups * clusters;
      SumGroups(a_sum, s, total.data());
      std::fill(along.begin(), along.end(), 0.0f);
      std::fill(through_centers.begin(), through_centers.end(), 0.0f);
      std::fill(da_sum, da_sum + s.groups * clusters, 0.0f);
      for (int64_t i = 0; i < size; i += clusters) {
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) along[k] += dunit[i + k] * unit[i + k];
      }
      for (int64_t p = 0; p < s.group_size; p++) {
        const int64_t at = p * clusters;
        float *dv = dsums + video * size + at, *center_sum = center_sums[piece].data() + at;
        const float* c = centers.data() + at;
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) {
          dv[k] = (dunit[at + k] - along[k] * unit[at + k]) * inverse[k];
          through_centers[k] += dv[k] * c[k];
          center_sum[k] -= dv[k] * total[k];
        }
        for (int64_t g = 0; g < s.groups; g++) {
          const float b = bias[g * s.group_size + p];
          float* da = da_sum + g * clusters;
          const float* a = a_sum + g * clusters;
          float dot = 0;
#pragma omp simd reduction(+ : dot)
          for (int64_t k = 0; k < clusters; k++) {
            da[k] += b * dv[k];
            dot += a[k] * dv[k];
          }
          bias_sums[piece][g * s.group_size + p] += dot;
        }
      }
      for (int64_t g = 0; g < s.groups; g++) {
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) da_sum[g * clusters + k] -= through_centers[k];
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
