// A dense layer's gradients and its Adam step in one pass. The gradient x^T dy of hidden1's 75.5 million weights is never stored as a whole, which saves
// writing and reading 302 MB a step; the gradient dx = dy w^T is computed in the same pass, which saves reading the weights once more. One of several ranks computes
// dx first, to the same bytes, and exchanges it during the Adam step.
#include "adam.h"
#include "float_products.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Rows of w that are updated at a time, whole tiles. With 1,024 columns, they and their gradient fit the L2 cache. Of a small matrix, of which each thread would
// compute too few blocks, a block has half as many rows or a quarter.
constexpr int64_t kBlockRows = 3 * kProductColumns, kMinBlockRows = kBlockRows / 4;
static_assert(kMinBlockRows % kProductRows == 0);
// Examples up to which dx is computed by dot products, which do not need a copy of w.
constexpr int64_t kDotExamples = kSimdLanes == 16 ? 48 : 16;
constexpr int kDotColumns = kSimdLanes == 16 ? 4 : 2;  // examples in a tile of dx: kTileRows dot products each

// dx = dy w^T for a block of up to kTileRows rows of w, before they are updated and while they are in the cache. The dot products are over columns, so their
// tile holds partial sums of each lane.
void MultiplyByDots(const float* w, const float* dy, int64_t examples, int64_t columns, int64_t rows, int64_t in, float* dx) {
  for (int64_t first = 0; first < examples; first += kDotColumns) {
    const int64_t count = std::min<int64_t>(kDotColumns, examples - first);
    Simd sums[kTileRows][kDotColumns] = {};
    const float *rows_of_w[kTileRows], *rows_of_dy[kDotColumns];
    for (int r = 0; r < kTileRows; r++) rows_of_w[r] = w + std::min<int64_t>(r, rows - 1) * columns;
    for (int e = 0; e < kDotColumns; e++) rows_of_dy[e] = dy + (first + std::min<int64_t>(e, count - 1)) * columns;
    int64_t column = 0;
    for (; column + kSimdLanes <= columns; column += kSimdLanes) {
      Simd d[kDotColumns];
#pragma GCC unroll 8
      for (int e = 0; e < kDotColumns; e++) d[e] = LoadSimd(rows_of_dy[e] + column);
#pragma GCC unroll 8
      for (int r = 0; r < kTileRows; r++) {
        const Simd row = LoadSimd(rows_of_w[r] + column);
#pragma GCC unroll 8
        for (int e = 0; e < kDotColumns; e++) sums[r][e] += row * d[e];
      }
    }
    float totals[kTileRows * kDotColumns];
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; r++) {
#pragma GCC unroll 8
      for (int e = 0; e < kDotColumns; e++) totals[r * kDotColumns + e] = SumOfLanes(sums[r][e]);
    }
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t e = 0; e < count; e++) {
        float sum = totals[r * kDotColumns + e];
        for (int64_t rest = column; rest < columns; rest++) sum += rows_of_w[r][rest] * rows_of_dy[e][rest];
        dx[(first + e) * in + r] = sum;
      }
    }
  }
}

// Inputs: x [B, in], dy [B, out]; w, m and v [in, out], updated in place if kUpdates; the bits of the coefficients (adam.h).
// Output if kHasGradient: dx = dy w^T [B, in], of w before the update.
template <bool kHasGradient, bool kUpdates>
void Compute(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t examples = shape[0], in = shape[1], out = call.Expect(1, {examples, Call::kAny})[1];
  for (int i = 2; i <= 4; i++) call.Expect(i, {in, out});
  call.Expect(5, {kAdamCoefficients});
  const float* x = call.Input<float>(0);
  const float* dy = call.Input<float>(1);
  float* w = call.Input<float>(2);
  float* m = call.Input<float>(3);
  float* v = call.Input<float>(4);
  const AdamCoefficients c = ReadCoefficients(call.Input<int32_t>(5));
  float* dx = kHasGradient ? call.Output(0, {examples, in}) : nullptr;
  // dy^T as the right factor of dx^T = w dy^T; empty if dot products compute it. w is then a left factor, which is read where it is.
  const bool multiplies = kHasGradient && examples > kDotExamples;
  Floats dy_rows(multiplies ? RightFloats(out, examples) : 0);
  if (multiplies) CopyRightOnAllThreads({dy, 1, out}, out, examples, dy_rows.data());
  // dy as the right factor of the gradient; empty without an update.
  Floats dy_columns(kUpdates ? RightFloats(examples, out) : 0);
  if (kUpdates) CopyRightOnAllThreads({dy, out, 1}, examples, out, dy_columns.data());
  // Blocks small enough for each thread to compute some, so that a slower one computes fewer.
  int64_t block_rows = kBlockRows;
  while (block_rows > kMinBlockRows && in < 8 * Pool::Shared().threads() * block_rows) block_rows /= 2;
  ForEachItem((in + block_rows - 1) / block_rows, [&](const auto& next) {
    Floats left(PanelFloats<kProductRows>(kProductTerms, kBlockRows)), gradient(kBlockRows * out), dx_rows(multiplies ? kBlockRows * examples : 0);
    for (int64_t block; next(&block);) {
      const int64_t row = block * block_rows, rows = std::min(block_rows, in - row);
      if (multiplies) {
        MultiplyAllPanels({w + row * out, out, 1}, dy_rows, rows, examples, out, left.data(), dx_rows.data(), examples);
        CopyTransposed(dx_rows.data(), examples, rows, examples, dx + row, in);
      } else if (kHasGradient) {
        for (int64_t r = row; r < row + rows; r += kTileRows) {
          MultiplyByDots(w + r * out, dy, examples, out, std::min<int64_t>(kTileRows, row + rows - r), in, dx + r);
        }
      }
      if (!kUpdates) continue;
      MultiplyAllPanels({x + row, 1, in}, dy_columns, rows, out, examples, left.data(), gradient.data(), out);
      const int64_t at = row * out;
#pragma omp simd
      for (int64_t i = 0; i < rows * out; i++) UpdateByAdam(gradient[i], c, w[at + i], m[at + i], v[at + i]);
    }
  });
}

// The same inputs for all three.
void DenseAdam(Call& call) { Compute<true, true>(call); }
void DenseGradient(Call& call) { Compute<true, false>(call); }
void DenseUpdate(Call& call) { Compute<false, true>(call); }

}  // namespace

std::string RegisterDenseAdam() {
  const Names inputs = {"x: float", "dy: float", "w: float", "m: float", "v: float", "coefficients: int32"};
  std::string problem = Register<DenseAdam>("NextvladDenseAdam", inputs, {"dx: float"});
  if (problem.empty()) problem = Register<DenseGradient>("NextvladDenseGradient", inputs, {"dx: float"});
  if (problem.empty()) problem = Register<DenseUpdate>("NextvladDenseUpdate", inputs, {});
  return problem;
}

}  // namespace nextvlad
