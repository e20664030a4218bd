// Batch norm over rows, and its gradient. Each thread takes a range of channels: their statistics are sums over few rows, which stay in the cache.
#include <cmath>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

constexpr int64_t kBlock = 64;  // channels that are computed at a time: 4 cache lines of each row

// Runs body(first, count) for blocks of channels.
template <class Body>
void ForChannels(int64_t channels, const Body& body) {
  ParallelFor((channels + kBlock - 1) / kBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; block++) body(block * kBlock, std::min(kBlock, channels - block * kBlock));
  });
}

// Inputs: x [rows, C], scale [C], shift [C], epsilon []. Outputs: y [rows, C]; the batch's mean, biased variance and 1 / sqrt(variance + epsilon) [C].
void Normalize(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t rows = shape[0], channels = shape[1];
  Call::Require(rows > 0, "the batch has no rows");
  for (int i = 1; i <= 2; i++) call.Expect(i, {channels});
  call.ExpectCount(3, 1);
  const float* x = call.Input<float>(0);
  const float* scale = call.Input<float>(1);
  const float* shift = call.Input<float>(2);
  const float epsilon = *call.Input<float>(3);
  float* y = call.Output(0, {rows, channels});
  float* mean = call.Output(1, {channels});
  float* variance = call.Output(2, {channels});
  float* inverse = call.Output(3, {channels});
  ForChannels(channels, [=](int64_t first, int64_t count) {
    double sums[kBlock] = {}, squares[kBlock] = {};
    for (int64_t r = 0; r < rows; r++) {
      const float* row = x + r * channels + first;
#pragma omp simd
      for (int64_t c = 0; c < count; c++) sums[c] += row[c];
    }
    for (int64_t c = 0; c < count; c++) sums[c] /= rows;
    for (int64_t r = 0; r < rows; r++) {
      const float* row = x + r * channels + first;
#pragma omp simd
      for (int64_t c = 0; c < count; c++) squares[c] += (row[c] - sums[c]) * (row[c] - sums[c]);
    }
    float factor[kBlock], addend[kBlock];  // y = x factor + addend
    for (int64_t c = 0; c < count; c++) {
      const double inverted = 1 / std::sqrt(squares[c] / rows + epsilon);
      mean[first + c] = sums[c];
      variance[first + c] = squares[c] / rows;
      inverse[first + c] = inverted;
      factor[c] = scale[first + c] * inverted;
      addend[c] = shift[first + c] - sums[c] * scale[first + c] * inverted;
    }
    for (int64_t r = 0; r < rows; r++) {
      const float* row = x + r * channels + first;
      float* to = y + r * channels + first;
#pragma omp simd
      for (int64_t c = 0; c < count; c++) to[c] = row[c] * factor[c] + addend[c];
    }
  });
}

// Inputs: dy and x [rows, C], scale, mean and inverse [C]. Outputs: the gradients of x [rows, C], scale and shift [C].
void NormalizeGradient(Call& call) {
  const auto shape = call.Expect(1, {Call::kAny, Call::kAny});
  const int64_t rows = shape[0], channels = shape[1];
  Call::Require(rows > 0, "the batch has no rows");
  call.Expect(0, {rows, channels});
  for (int i = 2; i <= 4; i++) call.Expect(i, {channels});
  const float* dy = call.Input<float>(0);
  const float* x = call.Input<float>(1);
  const float* scale = call.Input<float>(2);
  const float* mean = call.Input<float>(3);
  const float* inverse = call.Input<float>(4);
  float* dx = call.Output(0, {rows, channels});
  float* dscale = call.Output(1, {channels});
  float* dshift = call.Output(2, {channels});
  ForChannels(channels, [=](int64_t first, int64_t count) {
    double shifts[kBlock] = {}, scales[kBlock] = {};
    const float* center = mean + first;
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = r * channels + first;
#pragma omp simd
      for (int64_t c = 0; c < count; c++) {
        shifts[c] += dy[at + c];
        scales[c] += dy[at + c] * (x[at + c] - center[c]);
      }
    }
    float factor[kBlock], mean_dy[kBlock], slope[kBlock];  // dx = factor (dy - mean_dy - (x - mean) slope)
    for (int64_t c = 0; c < count; c++) {
      const double inverted = inverse[first + c];
      dshift[first + c] = shifts[c];
      dscale[first + c] = scales[c] * inverted;
      factor[c] = scale[first + c] * inverted;
      mean_dy[c] = shifts[c] / rows;
      slope[c] = scales[c] * inverted * inverted / rows;
    }
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = r * channels + first;
#pragma omp simd
      for (int64_t c = 0; c < count; c++) dx[at + c] = factor[c] * (dy[at + c] - mean_dy[c] - (x[at + c] - center[c]) * slope[c]);
    }
  });
}

}  // namespace

std::string RegisterBatchNorm() {
  const std::string problem = Register<Normalize>("NextvladBatchNorm", {"x: float", "scale: float", "shift: float", "epsilon: float"},
                                                  {"y: float", "mean: float", "variance: float", "inverse: float"});
  if (!problem.empty()) return problem;
  return Register<NormalizeGradient>("NextvladBatchNormGradient", {"dy: float", "x: float", "scale: float", "mean: float", "inverse: float"},
                                     {"dx: float", "dscale: float", "dshift: float"});
}

}  // namespace nextvlad
