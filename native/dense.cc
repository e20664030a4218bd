// The product of a few rows and a large matrix, bound by reading the matrix once: for 32 rows and the 302 MB of hidden1's weights, TensorFlow takes 46 ms,
// while the memory delivers them in 15.
#include <cstring>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "register_tile.h"

namespace nextvlad {
namespace {

constexpr int kMaxStreamedRows = 2;  // rows of x up to which it is fastest to read w row by row
constexpr int kBlock = 128;          // rows of w: the tile's part of them fits the L1 cache

// y += x w, reading w row by row: for very few rows of x, and for the columns from `first_column` that do not fill a tile.
// x [rows, terms] and y [rows, columns] have row strides `in` and `columns`.
void MultiplyAddRowByRow(const float* x, int64_t in, const float* w, int64_t columns, int64_t rows, int64_t terms, int64_t first_column, float* y) {
  int64_t t = 0;
  for (; t + 4 <= terms; t += 4) {
    const float *w0 = w + t * columns, *w1 = w0 + columns, *w2 = w1 + columns, *w3 = w2 + columns;
    for (int64_t b = 0; b < rows; b++) {
      const float* values = x + b * in + t;
      const float x0 = values[0], x1 = values[1], x2 = values[2], x3 = values[3];
      float* sums = y + b * columns;
#pragma omp simd
      for (int64_t c = first_column; c < columns; c++) sums[c] += x0 * w0[c] + x1 * w1[c] + x2 * w2[c] + x3 * w3[c];
    }
  }
  for (; t < terms; t++) {
    for (int64_t b = 0; b < rows; b++) {
      const float value = x[b * in + t];
#pragma omp simd
      for (int64_t c = first_column; c < columns; c++) y[b * columns + c] += value * w[t * columns + c];
    }
  }
}

// Inputs: x [B, in], w [in, out]. Output: x w [B, out].
void Dense(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t rows = shape[0], in = shape[1], out = call.Expect(1, {in, Call::kAny})[1];
  const float* x = call.Input<float>(0);
  const float* w = call.Input<float>(1);
  float* y = call.Output(0, {rows, out});
  const int threads = Pool::Shared().threads();
  std::vector<std::vector<float>> parts(threads);
  const int64_t tiled = out / kTileColumns * kTileColumns;
  ParallelFor(in, [&](int64_t begin, int64_t end, int piece) {
    std::vector<float>& part = parts[piece];
    part.assign(rows * out, 0.0f);
    if (rows <= kMaxStreamedRows) return MultiplyAddRowByRow(x + begin, in, w + begin * out, out, rows, end - begin, 0, part.data());
    const int64_t row_tiles = (rows + kTileRows - 1) / kTileRows;
    // Packed, x as [terms][kTileRows] and w as [terms][kTileColumns]: rows of the matrices are a multiple of 4 KiB apart, so that all values of a tile would
    // map to the same few lines of the L1 cache.
    std::vector<float> packed_x(row_tiles * kTileRows * kBlock), packed_w(kBlock * kTileColumns);
    for (int64_t block = begin; block < end; block += kBlock) {
      const int64_t terms = std::min<int64_t>(kBlock, end - block);
      for (int64_t b = 0; b < rows; b++) {
        float* packed = packed_x.data() + b / kTileRows * kTileRows * kBlock + b % kTileRows;
        for (int64_t t = 0; t < terms; t++) packed[t * kTileRows] = x[b * in + block + t];
      }
      for (int64_t column = 0; column < tiled; column += kTileColumns) {
        for (int64_t t = 0; t < terms; t++) {
          const float* row = w + (block + t) * out + column;
          std::memcpy(packed_w.data() + t * kTileColumns, row, kTileColumns * sizeof(float));
          // Prefetch the next block while this one is multiplied.
          if (block + kBlock + t < end) {
            for (int j = 0; j < kTileVectors; j++) __builtin_prefetch(row + kBlock * out + j * kSimdLanes, 0, 2);
          }
        }
        for (int64_t b = 0; b < rows; b += kTileRows) {
          RegisterTile<kTileRows, kTileVectors> tile;
          tile.MultiplyAdd(packed_x.data() + b * kBlock, kTileRows, 1, packed_w.data(), kTileColumns, terms);
          tile.AddTo(part.data() + b * out + column, out, rows - b);
        }
      }
      MultiplyAddRowByRow(x + block, in, w + block * out, out, rows, terms, tiled, part.data());
    }
  });
  ParallelFor(rows * out, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      float sum = 0;
      for (const std::vector<float>& part : parts) sum += part[i];
      y[i] = sum;
    }
  });
}

}  // namespace

std::string RegisterDense() { return Register<Dense>("NextvladDense", {"x: float", "w: float"}, {"y: float"}); }

}  // namespace nextvlad
