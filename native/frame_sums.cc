// Each video's sum over frames and groups of x1 times assignment, x1^T a, and its gradient, for videos of few frames: starting one of TensorFlow's products
// takes 40 microseconds, and a batch has three per video.
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "register_tile.h"

namespace nextvlad {
namespace {

// A matrix [terms, rows] whose values are `term_step` and `row_step` apart.
struct Left {
  const float* values;
  int64_t term_step, row_step;
};

// y = left^T right for kRows rows and kVectors vectors of columns.
template <int kRows, int kVectors>
void MultiplyTile(const Left& left, int64_t row, const float* right, int64_t columns, int64_t terms, float* y) {
  RegisterTile<kRows, kVectors> tile;
  tile.MultiplyAdd(left.values + row * left.row_step, left.term_step, left.row_step, right, columns, terms);
  tile.Store(y + row * columns, columns);
}

// The same for all rows of a stripe of columns.
template <int kVectors>
void MultiplyStripe(const Left& left, int64_t rows, const float* right, int64_t columns, int64_t terms, float* y) {
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows) MultiplyTile<kTileRows, kVectors>(left, i, right, columns, terms, y);
  for (; i < rows; i++) MultiplyTile<1, kVectors>(left, i, right, columns, terms, y);
}

// y [rows, columns] = left^T right, for right [terms, columns].
void Multiply(const Left& left, int64_t rows, const float* right, int64_t columns, int64_t terms, float* y) {
  int64_t j = 0;
  for (; j + kTileColumns <= columns; j += kTileColumns) MultiplyStripe<kTileVectors>(left, rows, right + j, columns, terms, y + j);
  for (; j + 2 * kSimdLanes <= columns; j += 2 * kSimdLanes) MultiplyStripe<2>(left, rows, right + j, columns, terms, y + j);
  for (; j + kSimdLanes <= columns; j += kSimdLanes) MultiplyStripe<1>(left, rows, right + j, columns, terms, y + j);
  for (int64_t i = 0; j < columns && i < rows; i++) {
    for (int64_t column = j; column < columns; column++) {
      float sum = 0;
      for (int64_t t = 0; t < terms; t++) sum += left.values[t * left.term_step + i * left.row_step] * right[t * columns + column];
      y[i * columns + column] = sum;
    }
  }
}

// The sizes of a batch, from x1 [N, G P], the assignment [N G, K] and the frame counts [B].
struct Batch {
  int64_t frames, width, groups, group_size, clusters, videos;
  std::vector<int32_t> offsets;

  Batch(Call& call, int x1, int assignment, int frame_counts) {
    const auto shape = call.Expect(x1, {Call::kAny, Call::kAny}), rows = call.Expect(assignment, {Call::kAny, Call::kAny});
    frames = shape[0], width = shape[1], clusters = rows[1];
    Call::Require(frames > 0 && rows[0] > 0 && rows[0] % frames == 0, std::to_string(rows[0]) + " rows of assignment for " + std::to_string(frames) + " frames");
    groups = rows[0] / frames;
    Call::Require(width % groups == 0, std::to_string(width) + " columns do not split into " + std::to_string(groups) + " groups");
    group_size = width / groups;
    offsets = call.Offsets(frame_counts, frames);
    videos = offsets.size() - 1;
  }
  // A video's rows of x1 [N G, P] and of the assignment [N G, K].
  int64_t first_row(int64_t video) const { return offsets[video] * groups; }
  int64_t rows(int64_t video) const { return (offsets[video + 1] - offsets[video]) * groups; }
};

// Inputs: x1 [N, G P], assignment [N G, K], frame counts [B]. Output: sums [B, P, K].
void FrameSums(Call& call) {
  const Batch batch(call, 0, 1, 2);
  const float* x1 = call.Input<float>(0);
  const float* assignment = call.Input<float>(1);
  float* sums = call.Output(0, {batch.videos, batch.group_size, batch.clusters});
  ForEachItem(batch.videos, [&](const auto& next) {
    for (int64_t video; next(&video);) {
      const int64_t row = batch.first_row(video);
      Multiply({x1 + row * batch.group_size, batch.group_size, 1}, batch.group_size, assignment + row * batch.clusters, batch.clusters, batch.rows(video),
               sums + video * batch.group_size * batch.clusters);
    }
  });
}

// Inputs: the gradient of the sums [B, P, K], x1 [N, G P], assignment [N G, K], frame counts [B]. Outputs: the gradients of the assignment and of x1.
void FrameSumsGradient(Call& call) {
  const Batch batch(call, 1, 2, 3);
  const int64_t size = batch.group_size, clusters = batch.clusters;
  call.Expect(0, {batch.videos, size, clusters});
  const float* dsums = call.Input<float>(0);
  const float* x1 = call.Input<float>(1);
  const float* assignment = call.Input<float>(2);
  float* dassignment = call.Output(0, {batch.frames * batch.groups, clusters});
  float* dx1 = call.Output(1, {batch.frames, batch.width});
  ForEachItem(batch.videos, [&](const auto& next) {
    Floats transposed(size * clusters);
    for (int64_t video; next(&video);) {
      const float* d = dsums + video * size * clusters;
      for (int64_t p = 0; p < size; p++) {
        for (int64_t k = 0; k < clusters; k++) transposed[k * size + p] = d[p * clusters + k];
      }
      const int64_t row = batch.first_row(video), rows = batch.rows(video);
      Multiply({x1 + row * size, 1, size}, rows, d, clusters, size, dassignment + row * clusters);
      Multiply({assignment + row * clusters, 1, clusters}, rows, transposed.data(), size, clusters, dx1 + row * size);
    }
  });
}

}  // namespace

std::string RegisterFrameSums() {
  const std::string problem = Register<FrameSums>("NextvladFrameSums", {"x1: float", "assignment: float", "frame_counts: int32"}, {"sums: float"});
  if (!problem.empty()) return problem;
  return Register<FrameSumsGradient>("NextvladFrameSumsGradient", {"dsums: float", "x1: float", "assignment: float", "frame_counts: int32"},
                                     {"dassignment: float", "dx1: float"});
}

}  // namespace nextvlad
