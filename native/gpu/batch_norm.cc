// Batch norm over rows, and its gradient. On an H200, cuDNN, which TensorFlow's kernel calls, took 16 ms forward and 6 ms backward for [48000, 1024], which
// the memory delivers in 0.05 ms.
#include "batch_norm.h"

#include "kernels.h"

namespace nextvlad::gpu {
namespace {

constexpr int64_t kChunk = 512;  // rows that one block sums
constexpr unsigned kBlockRows = 8;
constexpr Block kColumnBlock = {kWarp, kBlockRows};
constexpr unsigned kMomentBytes = kMoments * sizeof(float) * kWarp * kBlockRows;
constexpr unsigned kSumBytes = 2 * sizeof(float) * kWarp * kBlockRows;

unsigned ColumnBlocks(int64_t columns) { return static_cast<unsigned>((columns + kWarp - 1) / kWarp); }
unsigned Chunks(int64_t rows) { return static_cast<unsigned>((rows + kChunk - 1) / kChunk); }

// Inputs: x [rows, C], scale [C], shift [C], epsilon []. Outputs: y [rows, C]; the batch's mean, biased variance and 1 / sqrt(variance + epsilon) [C].
void Forward(GpuCall& call) {
  const auto shape = call.Expect(0, {GpuCall::kAny, GpuCall::kAny});
  const int64_t rows = shape[0], columns = shape[1];
  GpuCall::Require(rows > 0, "the batch has no rows");
  for (int i = 1; i <= 2; i++) call.Expect(i, {columns});
  call.ExpectCount(3, 1);
  float* y = call.Output(0, {rows, columns});
  const Statistics statistics{call.Output(1, {columns}), call.Output(2, {columns}), call.Output(3, {columns}), call.Temporary(columns)};
  const float* x = call.Input<float>(0);
  float* moments = call.Temporary(kMoments * MomentChunks(rows) * columns);
  PartialMoments(call, x, rows, columns, moments);
  MergeMoments(call, moments, MomentChunks(rows), columns, call.Input<float>(1), call.Input<float>(3), statistics);
  Launch(BatchNorm(), "Normalize", GridFor(rows * columns), {kThreads, 1}, 0, call.stream, x, static_cast<const float*>(statistics.mean),
         static_cast<const float*>(statistics.factor), static_cast<const float*>(call.Input<float>(2)), static_cast<long long>(rows * columns),
         static_cast<int>(columns), y);
}

// Inputs: dy and x [rows, C], scale, mean and inverse [C]. Outputs: the gradients of x [rows, C], scale and shift [C].
void Backward(GpuCall& call) {
  const auto shape = call.Expect(1, {GpuCall::kAny, GpuCall::kAny});
  const int64_t rows = shape[0], columns = shape[1];
  GpuCall::Require(rows > 0, "the batch has no rows");
  call.Expect(0, {rows, columns});
  for (int i = 2; i <= 4; i++) call.Expect(i, {columns});
  float* dx = call.Output(0, {rows, columns});
  float* dscale = call.Output(1, {columns});
  float* dshift = call.Output(2, {columns});
  float* parts = call.Temporary(2 * Chunks(rows) * columns);
  const float *dy = call.Input<float>(0), *x = call.Input<float>(1), *mean = call.Input<float>(3), *inverse = call.Input<float>(4);
  Launch(BatchNorm(), "PartialGradients", {ColumnBlocks(columns), Chunks(rows)}, kColumnBlock, kSumBytes, call.stream, dy, x, mean, inverse, static_cast<int>(rows),
         static_cast<int>(columns), static_cast<int>(kChunk), parts);
  SumGradients(call, parts, Chunks(rows), columns, dscale, dshift);
  NormalizeBackward(call, dy, x, mean, inverse, call.Input<float>(2), dscale, dshift, rows, columns, rows, dx);
}

}  // namespace

int64_t MomentChunks(int64_t rows) { return Chunks(rows); }

void PartialMoments(GpuCall& call, const float* x, int64_t rows, int64_t columns, float* moments) {
  Launch(BatchNorm(), "PartialMoments", {ColumnBlocks(columns), Chunks(rows)}, kColumnBlock, kMomentBytes, call.stream, x, static_cast<int>(rows),
         static_cast<int>(columns), static_cast<int>(kChunk), moments);
}

void MergeMoments(GpuCall& call, const float* moments, int64_t parts, int64_t columns, const float* scale, const float* epsilon, const Statistics& statistics) {
  Launch(BatchNorm(), "MergeMoments", {ColumnBlocks(columns), 1}, kColumnBlock, kMomentBytes, call.stream, moments, static_cast<int>(parts),
         static_cast<int>(columns), scale, epsilon, statistics.mean, statistics.variance, statistics.inverse, statistics.factor);
}

void SumGradients(GpuCall& call, const float* parts, int64_t chunks, int64_t columns, float* dscale, float* dshift) {
  Launch(BatchNorm(), "SumGradients", {ColumnBlocks(columns), 1}, kColumnBlock, kSumBytes, call.stream, parts, static_cast<int>(chunks), static_cast<int>(columns),
         dscale, dshift);
}

void NormalizeBackward(GpuCall& call, const float* dy, const float* x, const float* mean, const float* inverse, const float* scale, const float* dscale,
                       const float* dshift, int64_t rows, int64_t columns, int64_t all_rows, float* dx) {
  Launch(BatchNorm(), "NormalizeBackward", GridFor(rows * columns), {kThreads, 1}, 0, call.stream, dy, x, mean, inverse, scale, dscale, dshift,
         static_cast<long long>(rows * columns), static_cast<int>(columns), 1.0f / static_cast<float>(all_rows), dx);
}

// The ops are defined in ../batch_norm.cc.
std::string RegisterBatchNorm() {
  const std::string problem = AddKernel("NextvladBatchNorm", "GPU", Guarded<GpuCall, Forward>);
  return problem.empty() ? AddKernel("NextvladBatchNormGradient", "GPU", Guarded<GpuCall, Backward>) : problem;
}

}  // namespace nextvlad::gpu
