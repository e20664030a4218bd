// A dense layer's gradients and its Adam step in one pass. The gradient x^T dy of hidden1's 75.5 million weights is never stored as a whole, which saves
// writing and reading 302 MB a step; the gradient dx = dy w^T is computed in the same pass, which saves reading the weights once more.
#include <cstring>
#include <vector>

#include "adam.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "register_tile.h"

namespace nextvlad {
namespace {

constexpr int kDotColumns = kSimdLanes == 16 ? 4 : 2;  // examples in a tile of dx: kTileRows dot products each

// Computes the gradient of kTileRows rows and kTileColumns columns of w, then updates the first `rows` rows. x and dy are packed, [examples][kTileRows] and
// [examples][kTileColumns]: rows of the matrices are a multiple of 4 KiB apart, and would map to the same few lines of the L1 cache.
void UpdateTile(const float* x, const float* dy, int64_t examples, int64_t columns, int64_t rows, const AdamCoefficients& c, float* w, float* m, float* v) {
  RegisterTile<kTileRows, kTileVectors> tile;
  tile.MultiplyAdd(x, kTileRows, 1, dy, kTileColumns, examples);
  // Stored as a whole, whatever `rows` is: with a variable index, g++ would keep the sums in memory during the product.
  float gradients[kTileRows * kTileColumns];
  tile.Store(gradients, kTileColumns);
  for (int64_t r = 0; r < rows; r++) {
    const int64_t at = r * columns;
#pragma omp simd
    for (int j = 0; j < kTileColumns; j++) UpdateByAdam(gradients[r * kTileColumns + j], c, w[at + j], m[at + j], v[at + j]);
  }
}

// dx = dy w^T for a block of up to kTileRows rows of w, before they are updated and while they are in the cache. The dot products are over columns, so their
// tile holds partial sums of each lane.
void BackwardRows(const float* w, const float* dy, int64_t examples, int64_t columns, int64_t rows, int64_t in, float* dx) {
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
      for (int e = 0; e < kDotColumns; e++) {
        float total = 0;
        for (int lane = 0; lane < kSimdLanes; lane++) total += sums[r][e][lane];
        totals[r * kDotColumns + e] = total;
      }
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

// Inputs: x [B, in], dy [B, out]; w, m and v [in, out], updated in place; the bits of the coefficients (adam.h).
// Output: dx = dy w^T [B, in], of w before the update.
void DenseAdam(Call& call) {
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
  float* dx = call.Output(0, {examples, in});
  const int64_t tiles = out / kTileColumns;
  std::vector<float> packed_dy(tiles * examples * kTileColumns);
  for (int64_t tile = 0; tile < tiles; tile++) {
    for (int64_t b = 0; b < examples; b++) {
      std::memcpy(packed_dy.data() + (tile * examples + b) * kTileColumns, dy + b * out + tile * kTileColumns, kTileColumns * sizeof(float));
    }
  }
  const int64_t blocks = (in + kTileRows - 1) / kTileRows;
  ParallelFor(blocks, [&](int64_t begin, int64_t end, int) {
    std::vector<float> packed_x(examples * kTileRows);
    for (int64_t block = begin; block < end; block++) {
      const int64_t row = block * kTileRows, rows = std::min<int64_t>(kTileRows, in - row);
      for (int64_t b = 0; b < examples; b++) {
        for (int64_t r = 0; r < kTileRows; r++) packed_x[b * kTileRows + r] = r < rows ? x[b * in + row + r] : 0.0f;
      }
      BackwardRows(w + row * out, dy, examples, out, rows, in, dx + row);
      int64_t column = 0;
      for (; column + kTileColumns <= out; column += kTileColumns) {
        const int64_t at = row * out + column;
        UpdateTile(packed_x.data(), packed_dy.data() + column * examples, examples, out, rows, c, w + at, m + at, v + at);
      }
      for (; column < out; column++) {
        for (int64_t r = 0; r < rows; r++) {
          float gradient = 0;
          for (int64_t b = 0; b < examples; b++) gradient += packed_x[b * kTileRows + r] * dy[b * out + column];
          const int64_t at = (row + r) * out + column;
          UpdateByAdam(gradient, c, w[at], m[at], v[at]);
        }
      }
    }
  });
}

}  // namespace

std::string RegisterDenseAdam() {
  return Register<DenseAdam>("NextvladDenseAdam", {"x: float", "dy: float", "w: float", "m: float", "v: float", "coefficients: int32"}, {"dx: float"});
}

}  // namespace nextvlad
