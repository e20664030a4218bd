// A dense layer's gradient and its Adam step in one pass: the gradient x^T dy of hidden1's 75.5 million weights never exists as a whole,
// which saves writing and reading 302 MB a step; and the gradient to the layer's input on the way, which saves reading its weights once more.
#include <cstring>
#include <vector>

#include "adam.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

namespace nextvlad {
namespace {

// Sums of a tile that stay in registers: 16 of AVX-512's 32, 12 of AVX2's 16.
constexpr bool kManyRegisters = kSimdLanes == 16;
constexpr int kVectors = kManyRegisters ? 4 : 2;  // of a row of the weights
constexpr int kTile = kSimdLanes * kVectors;
constexpr int kRows = kManyRegisters ? 4 : 6;     // of the weights
constexpr int kExamples = kManyRegisters ? 4 : 2;

// Sums over examples for kRows rows and one tile of columns, then their update. x and dy are packed, [examples][kRows] and
// [examples][kTile]: in their matrices, whose rows lie a multiple of 4 KiB apart, they would fall on the same few lines of the first cache.
void UpdateTile(const float* x, const float* dy, int64_t examples, int64_t columns, int64_t rows, const AdamCoefficients& c, float* w, float* m, float* v) {
  Simd sums[kRows][kVectors] = {};
  for (int64_t b = 0; b < examples; b++) {
    Simd d[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) d[j] = LoadSimd(dy + b * kTile + j * kSimdLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) sums[r][j] += x[b * kRows + r] * d[j];
    }
  }
  // Stored in one place whatever `rows` is: an index that varies would keep the sums in memory all along.
  float gradients[kRows * kTile];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) Store(gradients + r * kTile + j * kSimdLanes, sums[r][j]);
  }
  for (int64_t r = 0; r < rows; r++) {
    const int64_t at = r * columns;
#pragma omp simd
    for (int j = 0; j < kTile; j++) UpdateByAdam(gradients[r * kTile + j], c, w + at + j, m + at + j, v + at + j);
  }
}

// dx = dy w^T for one block of rows, before they are updated: the rows are in the cache anyway.
void BackThrough(const float* w, const float* dy, int64_t examples, int64_t columns, int64_t rows, int64_t in, float* dx) {
  for (int64_t first = 0; first < examples; first += kExamples) {
    const int64_t count = std::min<int64_t>(kExamples, examples - first);
    Simd sums[kRows][kExamples] = {};
    const float *rows_of_w[kRows], *rows_of_dy[kExamples];
    for (int r = 0; r < kRows; r++) rows_of_w[r] = w + std::min<int64_t>(r, rows - 1) * columns;
    for (int e = 0; e < kExamples; e++) rows_of_dy[e] = dy + (first + std::min<int64_t>(e, count - 1)) * columns;
    int64_t column = 0;
    for (; column + kSimdLanes <= columns; column += kSimdLanes) {
      Simd d[kExamples];
#pragma GCC unroll 8
      for (int e = 0; e < kExamples; e++) d[e] = LoadSimd(rows_of_dy[e] + column);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) {
        const Simd row = LoadSimd(rows_of_w[r] + column);
#pragma GCC unroll 8
        for (int e = 0; e < kExamples; e++) sums[r][e] += row * d[e];
      }
    }
    float totals[kRows * kExamples];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
      for (int e = 0; e < kExamples; e++) {
        float total = 0;
        for (int lane = 0; lane < kSimdLanes; lane++) total += sums[r][e][lane];
        totals[r * kExamples + e] = total;
      }
    }
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t e = 0; e < count; e++) {
        float sum = totals[r * kExamples + e];
        for (int64_t tail = column; tail < columns; tail++) sum += rows_of_w[r][tail] * rows_of_dy[e][tail];
        dx[(first + e) * in + r] = sum;
      }
    }
  }
}

// Inputs: x [B, in], dy [B, out]; w, m and v [in, out], updated in place; the bits of the coefficients (adam.h). Output: dx = dy w^T [B, in], of w as it
// was.
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
  const int64_t tiles = out / kTile;
  std::vector<float> packed(tiles * examples * kTile);
  for (int64_t tile = 0; tile < tiles; tile++) {
    for (int64_t b = 0; b < examples; b++) {
      std::memcpy(packed.data() + (tile * examples + b) * kTile, dy + b * out + tile * kTile, kTile * sizeof(float));
    }
  }
  const int64_t blocks = (in + kRows - 1) / kRows;
  ParallelFor(blocks, [&](int64_t begin, int64_t end, int) {
    std::vector<float> rows_of_x(examples * kRows);
    for (int64_t block = begin; block < end; block++) {
      const int64_t row = block * kRows, rows = std::min<int64_t>(kRows, in - row);
      for (int64_t b = 0; b < examples; b++) {
        for (int64_t r = 0; r < kRows; r++) rows_of_x[b * kRows + r] = r < rows ? x[b * in + row + r] : 0.0f;
      }
      BackThrough(w + row * out, dy, examples, out, rows, in, dx + row);
      int64_t column = 0;
      for (; column + kTile <= out; column += kTile) {
        const int64_t at = row * out + column;
        UpdateTile(rows_of_x.data(), packed.data() + column * examples, examples, out, rows, c, w + at, m + at, v + at);
      }
      for (; column < out; column++) {
        for (int64_t r = 0; r < rows; r++) {
          float gradient = 0;
          for (int64_t b = 0; b < examples; b++) gradient += rows_of_x[b * kRows + r] * dy[b * out + column];
          const int64_t at = (row + r) * out + column;
          UpdateByAdam(gradient, c, w + at, m + at, v + at);
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
