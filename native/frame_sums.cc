// Each video's sum over frames and groups of expansion times assignment, x^T a, and its gradient, for videos of few frames: TensorFlow's products take 40
// microseconds each to start, and a batch has three a video.
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

namespace nextvlad {
namespace {

// Sums of a tile that stay in registers: 16 of AVX-512's 32, 12 of AVX2's 16.
constexpr bool kManyRegisters = kSimdLanes == 16;
constexpr int kMostVectors = kManyRegisters ? 4 : 2;
constexpr int kRows = kManyRegisters ? 4 : 6;

// A matrix [terms, rows] whose values lie `term_step` and `row_step` apart.
struct Left {
  const float* values;
  int64_t term_step, row_step;
  const float* at(int64_t row) const { return values + row * row_step; }
};

// y[i, j] = sum over l of left[l, i] right[l, j], for kTileRows rows and kVectors vectors of columns.
template <int kTileRows, int kVectors>
void MultiplyTile(const float* left, int64_t term_step, int64_t row_step, const float* right, int64_t columns, int64_t terms, float* y) {
  Simd sums[kTileRows][kVectors] = {};
  for (int64_t l = 0; l < terms; l++) {
    Simd row[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) row[j] = LoadSimd(right + l * columns + j * kSimdLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; i++) {
      const float value = left[l * term_step + i * row_step];
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) sums[i][j] += value * row[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) Store(y + i * columns + j * kSimdLanes, sums[i][j]);
  }
}

// The same for all rows of a stripe of columns.
template <int kVectors>
void MultiplyStripe(const Left& left, int64_t rows, const float* right, int64_t columns, int64_t terms, float* y) {
  int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    MultiplyTile<kRows, kVectors>(left.at(i), left.term_step, left.row_step, right, columns, terms, y + i * columns);
  }
  for (; i < rows; i++) MultiplyTile<1, kVectors>(left.at(i), left.term_step, left.row_step, right, columns, terms, y + i * columns);
}

// y [rows, columns] = left^T right, of right [terms, columns].
void Multiply(const Left& left, int64_t rows, const float* right, int64_t columns, int64_t terms, float* y) {
  int64_t j = 0;
  for (; j + kMostVectors * kSimdLanes <= columns; j += kMostVectors * kSimdLanes) MultiplyStripe<kMostVectors>(left, rows, right + j, columns, terms, y + j);
  for (; j + 2 * kSimdLanes <= columns; j += 2 * kSimdLanes) MultiplyStripe<2>(left, rows, right + j, columns, terms, y + j);
  for (; j + kSimdLanes <= columns; j += kSimdLanes) MultiplyStripe<1>(left, rows, right + j, columns, terms, y + j);
  for (int64_t i = 0; j < columns && i < rows; i++) {
    for (int64_t column = j; column < columns; column++) {
      float sum = 0;
      for (int64_t l = 0; l < terms; l++) sum += left.at(i)[l * left.term_step] * right[l * columns + column];
      y[i * columns + column] = sum;
    }
  }
}

// What the expansion [N, G P], the assignment [N G, K] and the frame counts [B] say of a batch.
struct Batch {
  int64_t frames, width, groups, group_size, clusters, videos;
  std::vector<int32_t> offsets;

  Batch(Call& call, int expanded, int assignment, int frame_counts) {
    const auto shape = call.Expect(expanded, {Call::kAny, Call::kAny}), rows = call.Expect(assignment, {Call::kAny, Call::kAny});
    frames = shape[0], width = shape[1], clusters = rows[1];
    Call::Require(frames > 0 && rows[0] > 0 && rows[0] % frames == 0, std::to_string(rows[0]) + " rows of assignment for " + std::to_string(frames) + " frames");
    groups = rows[0] / frames;
    Call::Require(width % groups == 0, std::to_string(width) + " columns do not split into " + std::to_string(groups) + " groups");
    group_size = width / groups;
    offsets = call.Offsets(frame_counts, frames);
    videos = offsets.size() - 1;
  }
  // Rows of one group each.
  int64_t first_row(int64_t video) const { return offsets[video] * groups; }
  int64_t rows(int64_t video) const { return (offsets[video + 1] - offsets[video]) * groups; }
};

// Inputs: expanded [N, G P], assignment [N G, K], frame counts [B]. Output: sums [B, P, K].
void FrameSums(Call& call) {
  const Batch batch(call, 0, 1, 2);
  const float* expanded = call.Input<float>(0);
  const float* assignment = call.Input<float>(1);
  float* sums = call.Output(0, {batch.videos, batch.group_size, batch.clusters});
  ShareOut(batch.videos, [&](const auto& next) {
    for (int64_t video; next(&video);) {
      const int64_t row = batch.first_row(video);
      Multiply({expanded + row * batch.group_size, batch.group_size, 1}, batch.group_size, assignment + row * batch.clusters, batch.clusters,
               batch.rows(video), sums + video * batch.group_size * batch.clusters);
    }
  });
}

// Inputs: the gradient of the sums [B, P, K], expanded [N, G P], assignment [N G, K], frame counts [B]. Outputs: the gradients of assignment and expanded.
void FrameSumsGradient(Call& call) {
  const Batch batch(call, 1, 2, 3);
  const int64_t size = batch.group_size, clusters = batch.clusters;
  call.Expect(0, {batch.videos, size, clusters});
  const float* dsums = call.Input<float>(0);
  const float* expanded = call.Input<float>(1);
  const float* assignment = call.Input<float>(2);
  float* dassignment = call.Output(0, {batch.frames * batch.groups, clusters});
  float* dexpanded = call.Output(1, {batch.frames, batch.width});
  ShareOut(batch.videos, [&](const auto& next) {
    Floats transposed(size * clusters);
    for (int64_t video; next(&video);) {
      const float* d = dsums + video * size * clusters;
      for (int64_t p = 0; p < size; p++) {
        for (int64_t k = 0; k < clusters; k++) transposed[k * size + p] = d[p * clusters + k];
      }
      const int64_t row = batch.first_row(video), rows = batch.rows(video);
      Multiply({expanded + row * size, 1, size}, rows, d, clusters, size, dassignment + row * clusters);
      Multiply({assignment + row * clusters, 1, clusters}, rows, transposed.data(), size, clusters, dexpanded + row * size);
    }
  });
}

}  // namespace

std::string RegisterFrameSums() {
  const std::string problem = Register<FrameSums>("NextvladFrameSums", {"expanded: float", "assignment: float", "frame_counts: int32"}, {"sums: float"});
  if (!problem.empty()) return problem;
  return Register<FrameSumsGradient>("NextvladFrameSumsGradient", {"dsums: float", "expanded: float", "assignment: float", "frame_counts: int32"},
                                     {"dassignment: float", "dexpanded: float"});
}

}  // namespace nextvlad
