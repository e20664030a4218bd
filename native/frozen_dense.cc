// Products with frozen weights, y = x w + shift. The weights are copied to panels once, so that a product takes no more than its arithmetic for any number of
// rows: TensorFlow copies them for each product, and computes products of few rows on one thread.
#include <cstring>

#include "float_products.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Rows and columns that a thread computes at a time: a block of their terms fits the L2 cache.
constexpr int64_t kItemRows = 192, kItemColumns = 64;
static_assert(kItemRows % kProductRows == 0 && kItemColumns % kProductColumns == 0 && kProductTerms % kLanes == 0);

// Input: w [terms, columns]. Output: its panels.
void Pack(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  float* panels = call.Output(0, {RightFloats(shape[0], shape[1])});
  CopyRightOnAllThreads({call.Input<float>(0), shape[1], 1}, shape[0], shape[1], panels);
}

// Copies rows [begin, end) of x [rows, terms] to FloatBlocks; rows and terms that pad a block are zero.
void CopyToBlocks(const float* x, int64_t rows, int64_t terms, int64_t begin, int64_t end, int64_t padded_rows, float* blocks) {
  for (int64_t r = begin; r < end; r++) {
    for (int64_t t = 0; t < terms; t += kLanes) {
      float* to = blocks + t * padded_rows + r * kLanes;
      const int64_t count = r < rows ? std::min<int64_t>(kLanes, terms - t) : 0;
      if (count == kLanes) {
        Store(to, Load(x + r * terms + t));
      } else {
        std::fill(to, to + kLanes, 0.0f);
        if (count > 0) std::memcpy(to, x + r * terms + t, count * sizeof(float));
      }
    }
  }
}

// Inputs: x [rows, terms], panels of w, shift [columns], and whether ReLU follows. Output: relu(x w + shift) [rows, columns]. A value does not depend on the number
// of rows or threads.
void Multiply(Call& call) {
  const int64_t columns = call.Expect(2, {Call::kAny})[0];
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t rows = shape[0], terms = shape[1];
  call.ExpectCount(1, RightFloats(terms, columns));
  call.ExpectCount(3, 1);
  const float *x = call.Input<float>(0), *right = call.Input<float>(1), *shift = call.Input<float>(2);
  const bool relu = *call.Input<float>(3) != 0;
  float* y = call.Output(0, {rows, columns});
  const int64_t padded_rows = RoundUp(rows, kProductRows);
  float* blocks = call.Temporary(RoundUp(terms, kLanes) * padded_rows);
  ParallelFor(padded_rows, [&](int64_t begin, int64_t end, int) { CopyToBlocks(x, rows, terms, begin, end, padded_rows, blocks); });
  const FloatBlocks left{blocks, padded_rows, terms};

  const int64_t across = (columns + kItemColumns - 1) / kItemColumns, down = (rows + kItemRows - 1) / kItemRows;
  ForEachItem(across * down, [&](const auto& next) {
    for (int64_t item; next(&item);) {
      const int64_t row = item / across * kItemRows, column = item % across * kItemColumns;
      const int64_t height = std::min(kItemRows, rows - row), width = std::min(kItemColumns, columns - column);
      float* to = y + row * columns + column;
      for (int64_t r = 0; r < height; r++) std::memcpy(to + r * columns, shift + column, width * sizeof(float));
      ForEachTerms(terms, [&](int64_t first, int64_t count) {
        // Each tile prefetches its share of the next panel: with AVX2, a product takes 4 % less time.
        const int64_t size = count * kProductColumns, share = RoundUp(size * kProductRows / height, kLanes);
        ForEachTile(right + RightFloats(first, columns) + column * count, height, width, count, true, false, to, columns,
                    [&](int64_t r, const float* panel, const float* addend, int64_t addend_step, float* tile, int64_t tile_step) {
                      const float* ahead = panel + size + r / kProductRows * share;
                      for (int64_t i = 0; i < share; i += kLanes) __builtin_prefetch(ahead + i, 0, 2);
                      MultiplyBlockedTile<kProductRows, kProductVectors>(left.at(first, row + r), padded_rows * kLanes, panel, count, addend, addend_step, tile, tile_step);
                    });
      });
      if (!relu) continue;
      for (int64_t r = 0; r < height; r++) {
        float* values = to + r * columns;
#pragma omp simd
        for (int64_t c = 0; c < width; c++) values[c] = std::max(values[c], 0.0f);
      }
    }
  });
}

}  // namespace

std::string RegisterFrozenDense() {
  const std::string problem = Register<Pack>("NextvladPackDense", {"w: float"}, {"panels: float"});
  return problem.empty() ? Register<Multiply>("NextvladFrozenDense", {"x: float", "panels: float", "shift: float", "relu: float"}, {"y: float"}) : problem;
}

}  // namespace nextvlad
