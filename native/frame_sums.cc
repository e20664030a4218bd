// Each video's sum over frames and groups of x1 times assignment, x1^T a, and its gradient. TensorFlow has no product of ragged matrices: a batch would have
// three products per video, and starting one takes 40 microseconds.
#include <algorithm>
#include <cstring>
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

constexpr int64_t kTerms = 4096 / kTileColumns;  // of which kTileColumns columns, 16 KiB, stay in the L1 cache
constexpr int64_t kRows = 40 * kTileRows;        // whose terms stay in the L2 cache

// Products of blocks of matrices. Columns of the right factor are copied to a panel, and so are rows of the left factor unless their terms are consecutive:
// values that are a power of two apart would map to the same few lines of the L1 cache.
class BlockedProduct {
 public:
  // y [rows, columns] = left^T right, for right [terms, columns].
  void Multiply(const Left& left, int64_t rows, const float* right, int64_t columns, int64_t terms, float* y) {
    if (terms == 0) std::fill_n(y, rows * columns, 0.0f);  // a video without frames
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t row_count = std::min(kRows, rows - row);
      for (int64_t term = 0; term < terms; term += kTerms) {
        const int64_t term_count = std::min(kTerms, terms - term);
        const Left block{left.values + row * left.row_step + term * left.term_step, left.term_step, left.row_step};
        AddBlock(block, row_count, right + term * columns, columns, term_count, term > 0, y + row * columns);
      }
    }
  }

 private:
  void AddBlock(const Left& left, int64_t rows, const float* right, int64_t columns, int64_t terms, bool add, float* y) {
    const int64_t copied = left.term_step == 1 ? rows / kTileRows * kTileRows : 0;  // the first row that is copied
    for (int64_t r = copied; r < rows; r += kTileRows) CopyRows({left.values + r * left.row_step, left.term_step, left.row_step}, terms, rows - r, r);
    for (int64_t first = 0; first < columns;) {
      const int64_t rest = columns - first;
      const Panel panel{right + first, columns, terms, copied, rows, add, y + first};
      if (rest >= kTileColumns) {
        first += AddPanel<kTileVectors>(left, panel, kTileColumns);
      } else if (rest > kSimdLanes) {
        first += AddPanel<2>(left, panel, std::min<int64_t>(2 * kSimdLanes, rest));
      } else {
        first += AddPanel<1>(left, panel, rest);
      }
    }
  }

  // A block's columns of the right factor and of y, and the block's size.
  struct Panel {
    const float* right;
    int64_t columns, terms, copied, rows;
    bool add;
    float* y;
  };

  // Multiplies `width` columns, at most kVectors vectors. Returns their number.
  template <int kVectors>
  int64_t AddPanel(const Left& left, const Panel& p, int64_t width) {
    constexpr int64_t kColumns = kVectors * kSimdLanes;
    for (int64_t t = 0; t < p.terms; t++) std::copy_n(p.right + t * p.columns, width, panel_.data() + t * kColumns);
    for (int64_t r = 0; r < p.rows; r += kTileRows) {
      const Left tile = r < p.copied ? Left{left.values + r * left.row_step, 1, left.row_step} : Left{rows_.data() + r * kTerms, kTileRows, 1};
      const int64_t count = std::min<int64_t>(kTileRows, p.rows - r);
      float* to = p.y + r * p.columns;
      if (width == kColumns && count == kTileRows) {
        MultiplyTile<kVectors>(tile, panel_.data(), p.terms, p.add, to, p.columns);
        continue;
      }
      float whole[kTileRows * kColumns];
      MultiplyTile<kVectors>(tile, panel_.data(), p.terms, false, whole, kColumns);
      for (int64_t i = 0; i < count; i++) {
        for (int64_t c = 0; c < width; c++) to[i * p.columns + c] = whole[i * kColumns + c] + (p.add ? to[i * p.columns + c] : 0);
      }
    }
    return width;
  }

  // Copies a tile's rows to rows_, [terms][kTileRows].
  void CopyRows(const Left& left, int64_t terms, int64_t rows, int64_t first_row) {
    float* to = rows_.data() + first_row * kTerms;
    if (left.row_step == 1 && rows >= kTileRows) {
      for (int64_t t = 0; t < terms; t++) std::memcpy(to + t * kTileRows, left.values + t * left.term_step, kTileRows * sizeof(float));
      return;
    }
    for (int64_t r = 0; r < std::min<int64_t>(kTileRows, rows); r++) {
      for (int64_t t = 0; t < terms; t++) to[t * kTileRows + r] = left.values[t * left.term_step + r * left.row_step];
    }
  }

  // y [kTileRows, kVectors vectors] = the product of a tile's rows and a panel, plus y if `add`. Not inlined: g++ 12 would keep a part of the sums in memory.
  template <int kVectors>
  [[gnu::noinline]] static void MultiplyTile(const Left& left, const float* panel, int64_t terms, bool add, float* y, int64_t stride) {
    RegisterTile<kTileRows, kVectors> tile;
    if (left.term_step == 1) {
      tile.MultiplyAdd(left.values, 1, left.row_step, panel, kVectors * kSimdLanes, terms);
    } else {
      tile.MultiplyAdd(left.values, kTileRows, 1, panel, kVectors * kSimdLanes, terms);
    }
    if (add) {
      tile.StoreSum(y, stride, y, stride);
    } else {
      tile.Store(y, stride);
    }
  }

  Floats rows_ = Floats(kRows * kTerms), panel_ = Floats(kTerms * kTileColumns);
};

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
    BlockedProduct product;
    for (int64_t video; next(&video);) {
      const int64_t row = batch.first_row(video);
      product.Multiply({x1 + row * batch.group_size, batch.group_size, 1}, batch.group_size, assignment + row * batch.clusters, batch.clusters, batch.rows(video),
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
    BlockedProduct product;
    Floats transposed(size * clusters);
    for (int64_t video; next(&video);) {
      const float* d = dsums + video * size * clusters;
      for (int64_t p = 0; p < size; p++) {
        for (int64_t k = 0; k < clusters; k++) transposed[k * size + p] = d[p * clusters + k];
      }
      const int64_t row = batch.first_row(video), rows = batch.rows(video);
      product.Multiply({x1 + row * size, 1, size}, rows, d, clusters, size, dassignment + row * clusters);
      product.Multiply({assignment + row * clusters, 1, clusters}, rows, transposed.data(), size, clusters, dx1 + row * size);
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
