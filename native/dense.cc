// The product of a few rows and a large matrix, bound by reading the matrix once: for 32 rows and the 302 MB of hidden1's weights, TensorFlow takes 46 ms,
// while the memory delivers them in 15. The rows of the matrix are read where they are and as they lie in memory, a few at a time, and added to sums that are
// small enough for the cache: copying the matrix to blocks first took almost as long as the product.
#include <cstring>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "register_tile.h"

namespace nextvlad {
namespace {

constexpr int kMaxStreamedRows = 2;  // rows of x up to which it is fastest to read w row by row
// A tile's columns, and the rows of w of which they stay in registers: 24 of AVX-512's 32, 12 of 16. A tile of y of 128 rows fits the L1 cache.
constexpr int kVectors = 2, kColumns = kVectors * kSimdLanes;
constexpr int kTerms = kSimdLanes == 16 ? 12 : 6;
// Tiles of columns that are prefetched to the L2 cache. Without it, a product of 32 rows takes 1.3 times as long. In the L1 cache, the rows of w fall into the same
// lines if they are a multiple of 4 KiB apart.
constexpr int kAhead = kSimdLanes == 16 ? 8 : 4;

// y [rows, columns] += x w, reading w row by row. x [rows, terms] has the row stride `in`.
void MultiplyAddRowByRow(const float* x, int64_t in, const float* w, int64_t columns, int64_t rows, int64_t terms, float* y) {
  int64_t t = 0;
  for (; t + 4 <= terms; t += 4) {
    const float *w0 = w + t * columns, *w1 = w0 + columns, *w2 = w1 + columns, *w3 = w2 + columns;
    for (int64_t b = 0; b < rows; b++) {
      const float* values = x + b * in + t;
      const float x0 = values[0], x1 = values[1], x2 = values[2], x3 = values[3];
      float* sums = y + b * columns;
#pragma omp simd
      for (int64_t c = 0; c < columns; c++) sums[c] += x0 * w0[c] + x1 * w1[c] + x2 * w2[c] + x3 * w3[c];
    }
  }
  for (; t < terms; t++) {
    for (int64_t b = 0; b < rows; b++) {
      const float value = x[b * in + t];
#pragma omp simd
      for (int64_t c = 0; c < columns; c++) y[b * columns + c] += value * w[t * columns + c];
    }
  }
}

// y [rows, kColumns] += x w for `kCount` rows of w. x is [rows][kTerms].
template <int kCount>
[[gnu::noinline]] void MultiplyAddTile(const float* x, int64_t rows, const float* w, int64_t columns, float* y) {
  Simd right[kCount][kVectors];
#pragma GCC unroll 12
  for (int t = 0; t < kCount; t++) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) right[t][j] = LoadSimd(w + t * columns + j * kSimdLanes);
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; j += kLanes) __builtin_prefetch(w + t * columns + kAhead * kColumns + j, 0, 2);
  }
  for (int64_t b = 0; b < rows; b++, x += kTerms, y += kColumns) {
    Simd sums[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) sums[j] = LoadSimd(y + j * kSimdLanes);
#pragma GCC unroll 12
    for (int t = 0; t < kCount; t++) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) sums[j] += x[t] * right[t][j];
    }
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) Store(y + j * kSimdLanes, sums[j]);
  }
}

// The same for `count` rows of w, at most kMaxCount.
template <int kMaxCount = kTerms>
void MultiplyAddTileOf(int64_t count, const float* x, int64_t rows, const float* w, int64_t columns, float* y) {
  if (count == kMaxCount) {
    MultiplyAddTile<kMaxCount>(x, rows, w, columns, y);
  } else if constexpr (kMaxCount > 1) {
    MultiplyAddTileOf<kMaxCount - 1>(count, x, rows, w, columns, y);
  }
}

// y [tiles of columns][rows][kColumns] += x w, for any number of rows. x [rows, terms] has the row stride `in`; `block` takes kTerms of its columns.
void MultiplyAddTiles(const float* x, int64_t in, const float* w, int64_t columns, int64_t rows, int64_t terms, float* block, float* y) {
  float padded[kTerms * kColumns] = {};  // the columns that do not fill a tile
  for (int64_t t = 0; t < terms; t += kTerms) {
    const int64_t count = std::min<int64_t>(kTerms, terms - t);
    for (int64_t b = 0; b < rows; b++) {
      if (count == kTerms) {  // a constant size: without a call
        std::memcpy(block + b * kTerms, x + b * in + t, kTerms * sizeof(float));
      } else {
        std::memcpy(block + b * kTerms, x + b * in + t, count * sizeof(float));
      }
    }
    for (int64_t column = 0; column < columns; column += kColumns) {
      const bool whole = column + kColumns <= columns;
      const float* from = w + t * columns + column;
      for (int64_t i = 0; !whole && i < count; i++) std::memcpy(padded + i * kColumns, from + i * columns, (columns - column) * sizeof(float));
      MultiplyAddTileOf(count, block, rows, whole ? from : padded, whole ? columns : kColumns, y + column * rows);
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
  // Each thread's sums: y, or its tiles.
  std::vector<Floats> parts(Pool::Shared().threads());
  if (rows <= kMaxStreamedRows) {
    ParallelFor(in, [&](int64_t begin, int64_t end, int piece) {
      parts[piece].assign(rows * out, 0.0f);
      MultiplyAddRowByRow(x + begin, in, w + begin * out, out, rows, end - begin, parts[piece].data());
    });
    for (int64_t i = 0; i < rows * out; i++) {
      float sum = 0;
      for (const Floats& part : parts) sum += part[i];
      y[i] = sum;
    }
    return;
  }
  const int64_t tiles = (out + kColumns - 1) / kColumns;
  ParallelFor(in, [&](int64_t begin, int64_t end, int piece) {
    parts[piece].assign(tiles * kColumns * rows, 0.0f);
    Floats block(rows * kTerms);
    MultiplyAddTiles(x + begin, in, w + begin * out, out, rows, end - begin, block.data(), parts[piece].data());
  });
  ParallelFor(tiles * rows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {  // tile after tile, as they lie in memory
      float sums[kColumns];
      for (int j = 0; j < kColumns; j += kSimdLanes) {
        Simd sum{};
        for (const Floats& part : parts) sum += LoadSimd(part.data() + i * kColumns + j);
        Store(sums + j, sum);
      }
      const int64_t column = i / rows * kColumns;
      std::memcpy(y + i % rows * out + column, sums, std::min<int64_t>(kColumns, out - column) * sizeof(float));
    }
  });
}

}  // namespace

std::string RegisterDense() { return Register<Dense>("NextvladDense", {"x: float", "w: float"}, {"y: float"}); }

}  // namespace nextvlad
