// Each video's sum over frames and groups of x1 times assignment, x1^T a, and its gradient. TensorFlow has no product of ragged matrices: a batch would have
// three products per video, and starting one takes 40 microseconds.
#include <algorithm>
#include <vector>

#include "float_products.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Rows of a gradient that are computed at a time: their terms stay in the L2 cache.
constexpr int64_t kBlockRows = 40 * kProductRows;

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
    Floats left(PanelFloats<kProductRows>(kProductTerms, batch.group_size)), right(PanelFloats<kProductColumns>(kProductTerms, batch.clusters));
    for (int64_t video; next(&video);) {
      const Matrix x{x1 + batch.first_row(video) * batch.group_size, batch.group_size, 1};
      const Matrix a{assignment + batch.first_row(video) * batch.clusters, batch.clusters, 1};
      float* to = sums + video * batch.group_size * batch.clusters;
      if (batch.rows(video) == 0) std::fill_n(to, batch.group_size * batch.clusters, 0.0f);  // a video without frames
      ForEachTerms(batch.rows(video), [&](int64_t first, int64_t terms) {
        CopyToPanels<kProductColumns>(a.From(first, 0), terms, batch.clusters, right.data());
        MultiplyPanels(x.From(first, 0).Transposed(), right.data(), batch.group_size, batch.clusters, terms, first > 0, left.data(), to, batch.clusters);
      });
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
    Floats left(PanelFloats<kProductRows>(kProductTerms, kBlockRows)), right(std::max(RightFloats(size, clusters), RightFloats(clusters, size)));
    // y [rows, columns] = a b, for b [terms, columns].
    const auto multiply = [&](const Matrix& a, const Matrix& b, int64_t rows, int64_t columns, int64_t terms, float* y) {
      CopyRight(b, terms, columns, 0, columns, right.data());
      for (int64_t row = 0; row < rows; row += kBlockRows) {
        MultiplyAllPanels(a.From(row, 0), right, std::min(kBlockRows, rows - row), columns, terms, left.data(), y + row * columns, columns);
      }
    };
    for (int64_t video; next(&video);) {
      const Matrix d{dsums + video * size * clusters, clusters, 1};
      const int64_t row = batch.first_row(video), rows = batch.rows(video);
      multiply({x1 + row * size, size, 1}, d, rows, clusters, size, dassignment + row * clusters);
      multiply({assignment + row * clusters, clusters, 1}, d.Transposed(), rows, size, clusters, dx1 + row * size);
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
