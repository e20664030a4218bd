// Products of matrices of floats. The right factor is copied to panels, in which a tile of sums reads consecutive memory; the left factor only if the terms of a
// row do not follow each other in memory.
#pragma once

#include <algorithm>
#include <cstring>

#include "parallel.h"
#include "register_tile.h"

namespace nextvlad {

// A matrix in memory or, with the steps exchanged, its transpose. One of the steps is 1.
struct Matrix {
  const float* values;
  int64_t row_step, column_step;
  const float* at(int64_t row, int64_t column) const { return values + row * row_step + column * column_step; }
  Matrix From(int64_t row, int64_t column) const { return {at(row, column), row_step, column_step}; }
  Matrix Transposed() const { return {values, column_step, row_step}; }
};

// The shape of a tile: 24 sums of AVX-512's 32 registers, 12 of 16.
constexpr int kProductRows = kSimdLanes == 16 ? 12 : 6;
constexpr int kProductVectors = 2;
constexpr int kProductColumns = kProductVectors * kSimdLanes;
// Terms that are summed at a time: a panel of them and a tile's rows fit the L1 cache. It also halves the error of a sum of 1,024 terms.
constexpr int64_t kProductTerms = 192;

// Transposes a square of kSimdLanes rows of values, by exchanging ever larger blocks.
inline void TransposeSquare(const float* from, int64_t from_step, float* to, int64_t to_step) {
  Simd rows[kSimdLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kSimdLanes; i++) rows[i] = LoadSimd(from + i * from_step);
#pragma GCC unroll 4
  for (int size = 1; size < kSimdLanes; size *= 2) {
    // Of a pair of rows, the lanes from kSimdLanes on are the second's.
    const SimdLaneNumbers low = kLaneNumbers + (((kLaneNumbers & size) != 0) & (kSimdLanes - size)), high = low + size;
#pragma GCC unroll 16
    for (int i = 0; i < kSimdLanes; i++) {
      if (i & size) continue;
      const Simd a = rows[i], b = rows[i + size];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + size] = __builtin_shuffle(a, b, high);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSimdLanes; i++) Store(to + i * to_step, rows[i]);
}

// to [columns, rows] = the transpose of from [rows, columns].
inline void CopyTransposed(const float* from, int64_t from_step, int64_t rows, int64_t columns, float* to, int64_t to_step) {
  const int64_t square_rows = rows / kSimdLanes * kSimdLanes, square_columns = columns / kSimdLanes * kSimdLanes;
  for (int64_t r = 0; r < square_rows; r += kSimdLanes) {
    for (int64_t c = 0; c < square_columns; c += kSimdLanes) TransposeSquare(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
  }
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = r < square_rows ? square_columns : 0; c < columns; c++) to[c * to_step + r] = from[r * from_step + c];
  }
}

// The floats that panels of `lines` lines take.
template <int kWidth>
constexpr int64_t PanelFloats(int64_t terms, int64_t lines) {
  return RoundUp(lines, kWidth) * terms;
}

// Rows that are read side by side: one row at a time would write one line of each panel, one panel at a time would read one line of each page. The next ones are
// prefetched, which makes the sums over frames 12 % faster.
constexpr int64_t kCopiedTerms = 16;

// Copies m [terms, lines] to panels [lines / kWidth][terms][kWidth]. What pads the last panel is zero.
template <int kWidth>
void CopyToPanels(const Matrix& m, int64_t terms, int64_t lines, float* to) {
  const int64_t whole = lines / kWidth * kWidth;
  if (m.column_step == 1) {
    for (int64_t begin = 0; begin < terms; begin += kCopiedTerms) {
      const int64_t end = std::min(terms, begin + kCopiedTerms);
      for (int64_t line = 0; line < whole; line += kWidth) {
        for (int64_t t = begin; t < end; t++) {
          __builtin_prefetch(m.at(t + kCopiedTerms, line));
          std::memcpy(to + line * terms + t * kWidth, m.at(t, line), kWidth * sizeof(float));
        }
      }
    }
  } else {
    for (int64_t line = 0; line < whole; line += kWidth) CopyTransposed(m.at(0, line), m.column_step, kWidth, terms, to + line * terms, kWidth);
  }
  if (whole == lines) return;
  float* panel = to + whole * terms;
  std::fill(panel, panel + terms * kWidth, 0.0f);
  for (int64_t t = 0; t < terms; t++) {
    for (int64_t i = 0; i < lines - whole; i++) panel[t * kWidth + i] = *m.at(t, whole + i);
  }
}

// y [kProductRows, kProductColumns] = addend + left times right. left is a panel, or rows `left_step` apart. Not inlined: g++ 12 would keep a part of the sums
// in memory.
template <bool kPanel>
[[gnu::noinline]] void MultiplyTile(const float* left, int64_t left_step, const float* right, int64_t terms, const float* addend, int64_t addend_step, float* y,
                                    int64_t y_step) {
  RegisterTile<kProductRows, kProductVectors> tile;
  tile.MultiplyAdd(left, kPanel ? kProductRows : 1, kPanel ? 1 : left_step, right, kProductColumns, terms);
  tile.StoreSum(addend, addend_step, y, y_step);
}

// y [rows, columns] = a product of panels of kProductColumns columns `right`, plus y if `add`. multiply(row, right, addend, addend_step, tile, tile_step) computes
// the tile from `row`, tile = addend + the product. If `overlap`, the last rows' tile starts among those of the tile before, which it computes again, with equal
// results.
template <class Multiply>
void ForEachTile(const float* right, int64_t rows, int64_t columns, int64_t terms, bool add, bool overlap, float* y, int64_t y_step, const Multiply& multiply) {
  const float zeros[kProductColumns] = {};
  float whole[kProductRows * kProductColumns];
  for (int64_t c = 0; c < columns; c += kProductColumns, right += kProductColumns * terms) {
    const int64_t width = std::min<int64_t>(kProductColumns, columns - c);
    for (int64_t row = 0; row < rows; row += kProductRows) {
      const int64_t r = overlap ? std::min(row, rows - kProductRows) : row;
      const int64_t height = std::min<int64_t>(kProductRows, rows - r);
      float* to = y + r * y_step + c;
      if (height == kProductRows && width == kProductColumns) {
        multiply(r, right, add ? to : zeros, add ? y_step : 0, to, y_step);
        continue;
      }
      multiply(r, right, zeros, 0, whole, kProductColumns);
      for (int64_t i = 0; i < height; i++) {
        for (int64_t j = 0; j < width; j++) to[i * y_step + j] = whole[i * kProductColumns + j] + (add ? to[i * y_step + j] : 0.0f);
      }
    }
  }
}

// y [rows, columns] = a times right, plus y if `add`. right is panels of kProductColumns columns. a's rows are read where they are if their terms follow each
// other in memory, else they are copied to `panels`.
inline void MultiplyPanels(const Matrix& a, const float* right, int64_t rows, int64_t columns, int64_t terms, bool add, float* panels, float* y,
                           int64_t y_step) {
  const bool overlap = a.column_step == 1 && rows >= kProductRows && !add;
  // The rows of a that are not copied: a tile of fewer than kProductRows rows always is.
  const int64_t direct = overlap ? rows : a.column_step == 1 ? rows / kProductRows * kProductRows : 0;
  CopyToPanels<kProductRows>(a.From(direct, 0).Transposed(), terms, rows - direct, panels);
  ForEachTile(right, rows, columns, terms, add, overlap, y, y_step,
              [&](int64_t r, const float* panel, const float* addend, int64_t addend_step, float* tile, int64_t tile_step) {
                if (r < direct) {
                  MultiplyTile<false>(a.at(r, 0), a.row_step, panel, terms, addend, addend_step, tile, tile_step);
                } else {
                  MultiplyTile<true>(panels + (r - direct) * terms, 0, panel, terms, addend, addend_step, tile, tile_step);
                }
              });
}

// Calls body(first, count) for each block of up to kProductTerms of `terms` terms.
template <class Body>
void ForEachTerms(int64_t terms, const Body& body) {
  for (int64_t first = 0; first < terms; first += kProductTerms) body(first, std::min(kProductTerms, terms - first));
}

// The floats of a right factor [terms, columns] in panels.
constexpr int64_t RightFloats(int64_t terms, int64_t columns) { return PanelFloats<kProductColumns>(terms, columns); }

// Copies columns [begin, end) of m [terms, columns] to panels, one block of terms after the other. `begin` is the first column of a panel.
inline void CopyRight(const Matrix& m, int64_t terms, int64_t columns, int64_t begin, int64_t end, float* to) {
  ForEachTerms(terms, [&](int64_t first, int64_t count) {
    CopyToPanels<kProductColumns>(m.From(first, begin), count, end - begin, to + RightFloats(first, columns) + begin * count);
  });
}

// Copies m [terms, columns] to panels on all threads.
inline void CopyRightOnAllThreads(const Matrix& m, int64_t terms, int64_t columns, float* to) {
  ParallelFor(RoundUp(columns, kProductColumns) / kProductColumns, [&](int64_t begin, int64_t end, int) {
    CopyRight(m, terms, columns, begin * kProductColumns, std::min(columns, end * kProductColumns), to);
  });
}

// y [rows, columns] = a [rows, terms] times right, in panels. `panels` takes a block of terms of a.
inline void MultiplyAllPanels(const Matrix& a, const Floats& right, int64_t rows, int64_t columns, int64_t terms, float* panels, float* y, int64_t y_step) {
  ForEachTerms(terms, [&](int64_t first, int64_t count) {
    MultiplyPanels(a.From(0, first), right.data() + RightFloats(first, columns), rows, columns, count, first > 0, panels, y, y_step);
  });
}

}  // namespace nextvlad
