// A tile of a matrix product whose sums stay in registers. The products of panels.h, float_products.h, dense.cc, dense_adam.cc,
// frame_sums.cc and frames.cc are made of such tiles.
#pragma once

#include "vector.h"

namespace nextvlad {

// The shape that fits the registers: 16 sums of AVX-512's 32 registers, 12 of AVX2's 16.
constexpr int kTileRows = kSimdLanes == 16 ? 4 : 6;
constexpr int kTileVectors = kSimdLanes == 16 ? 4 : 2;
constexpr int kTileColumns = kTileVectors * kSimdLanes;

// Sums [kRows, kVectors * kSimdLanes]. All loops over them are unrolled: g++ keeps an array in memory if it is indexed by a variable.
template <int kRows, int kVectors>
class RegisterTile {
 public:
  // Starts from the values of `from`, whose rows are `stride` apart, instead of zeros.
  [[gnu::always_inline]] void Load(const float* from, int64_t stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) sums_[i][j] = LoadSimd(from + i * stride + j * kSimdLanes);
    }
  }

  // sums[i, j] += sum over t of left[t, i] right[t, j], in the order of t. The values of left are `left_step` apart along t, and `left_stride` along i.
  [[gnu::always_inline]] void MultiplyAdd(const float* left, int64_t left_step, int64_t left_stride, const float* right, int64_t right_step, int64_t terms) {
    for (int64_t t = 0; t < terms; t++) {
      Simd row[kVectors];
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) row[j] = LoadSimd(right + t * right_step + j * kSimdLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; i++) {
        const float value = left[t * left_step + i * left_stride];
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; j++) sums_[i][j] += value * row[j];
      }
    }
  }

  [[gnu::always_inline]] void Store(float* to, int64_t stride) const {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) nextvlad::Store(to + i * stride + j * kSimdLanes, sums_[i][j]);
    }
  }

  // to = the sums + `addend`, whose rows are `addend_stride` apart.
  [[gnu::always_inline]] void StoreSum(const float* addend, int64_t addend_stride, float* to, int64_t stride) const {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) {
        nextvlad::Store(to + i * stride + j * kSimdLanes, LoadSimd(addend + i * addend_stride + j * kSimdLanes) + sums_[i][j]);
      }
    }
  }

 private:
  Simd sums_[kRows][kVectors] = {};
};

// Rows of floats in blocks of 16 columns, [columns / 16][rows][16], so that the rows of a tile are consecutive in memory: if they were a power of two apart, they
// would fall into the same lines of the L1 cache. `rows` is a multiple of a tile's, and what pads rows and columns is zero.
struct FloatBlocks {
  const float* values;
  int64_t rows, columns;
  const float* at(int64_t column, int64_t row) const { return values + (column / kLanes * rows + row) * kLanes; }
};

// y [kRows, kVectors * kSimdLanes] = addend + blocked rows, whose blocks are `block_step` apart, times a panel's rows. The products are summed before the addend is
// added: in one run, a sum of 1,024 products would have twice the error. A function of its own: inlined, g++ 12 keeps a part of the sums in memory.
template <int kRows, int kVectors>
[[gnu::noinline]] void MultiplyBlockedTile(const float* x, int64_t block_step, const float* panel, int64_t terms, const float* addend, int64_t addend_step, float* y,
                                           int64_t y_step) {
  constexpr int64_t kColumns = kVectors * kSimdLanes;
  RegisterTile<kRows, kVectors> tile;
  for (; terms > kLanes; terms -= kLanes, x += block_step, panel += kLanes * kColumns) tile.MultiplyAdd(x, 1, kLanes, panel, kColumns, kLanes);
  tile.MultiplyAdd(x, 1, kLanes, panel, kColumns, terms);
  tile.StoreSum(addend, addend_step, y, y_step);
}

}  // namespace nextvlad
