// Products of bytes and panels of 8-bit terms by AMX, whose instructions multiply 16 rows of 64 bytes by 64 x 16 bytes: eight times as many products a cycle as
// AVX512-VNNI. The format of panels is panels.h's: a tile of weights is 16 words of one term.
#pragma once

#include <algorithm>
#include <cstdint>

#include "integers.h"
#include "vector.h"

#if defined(__AMX_INT8__)

namespace nextvlad {

constexpr int64_t kByteTileRows = 16;   // of features, and of sums
constexpr int64_t kByteTileWords = 16;  // of a row of features

// Configures this thread's tile registers while it exists: each has 16 rows of 64 bytes. At the end they are released, because the system saves registers in use
// whenever it switches threads.
class ByteTileRegisters {
 public:
  ByteTileRegisters() {
    struct {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } const configuration;
    _tile_loadconfig(&configuration);
  }
  ~ByteTileRegisters() { _tile_release(); }
};

// totals [kBlocks][kTerms][16][16] = the initial sums [kTerms][16] plus the products of kBlocks (1 or 2) times 16 rows and `words` words, a multiple of 16.
template <int kTerms, int kBlocks>
inline void SumByteTiles(const uint8_t* rows, int64_t stride, const int32_t* start, const int8_t* weights, int64_t words, int32_t* totals) {
  // The numbers of registers are part of the instructions. Registers 0 to 2 hold the sums of the first block's terms and 3 to 5 those of the second's; 6 holds
  // features and 7 weights. Memory barriers: the intrinsics do not tell g++ 12 that they read and write memory.
  asm volatile("" : : : "memory");
  _tile_loadd(0, start, 0);
  if constexpr (kTerms > 1) _tile_loadd(1, start + kLanes, 0);
  if constexpr (kTerms > 2) _tile_loadd(2, start + 2 * kLanes, 0);
  if constexpr (kBlocks > 1) {
    _tile_loadd(3, start, 0);
    if constexpr (kTerms > 1) _tile_loadd(4, start + kLanes, 0);
    if constexpr (kTerms > 2) _tile_loadd(5, start + 2 * kLanes, 0);
  }
  constexpr int64_t kWordBytes = kTerms * kLanes * 4;  // of all terms
  for (int64_t word = 0; word < words; word += kByteTileWords) {
    const uint8_t* features = rows + word * 4;
    const int8_t* w = weights + word * kWordBytes;
    _tile_loadd(6, features, stride);
    _tile_loadd(7, w, kWordBytes);
    _tile_dpbusd(0, 6, 7);
    if constexpr (kTerms > 1) {
      _tile_loadd(7, w + kLanes * 4, kWordBytes);
      _tile_dpbusd(1, 6, 7);
    }
    if constexpr (kTerms > 2) {
      _tile_loadd(7, w + 2 * kLanes * 4, kWordBytes);
      _tile_dpbusd(2, 6, 7);
    }
    if constexpr (kBlocks > 1) {
      // In reverse order: register 7 holds the last term.
      _tile_loadd(6, features + kByteTileRows * stride, stride);
      if constexpr (kTerms > 2) {
        _tile_dpbusd(5, 6, 7);
        _tile_loadd(7, w + kLanes * 4, kWordBytes);
      }
      if constexpr (kTerms > 1) {
        _tile_dpbusd(4, 6, 7);
        _tile_loadd(7, w, kWordBytes);
      }
      _tile_dpbusd(3, 6, 7);
    }
  }
  constexpr int64_t kTile = kByteTileRows * kLanes, kRowBytes = kLanes * sizeof(int32_t);
  _tile_stored(0, totals, kRowBytes);
  if constexpr (kTerms > 1) _tile_stored(1, totals + kTile, kRowBytes);
  if constexpr (kTerms > 2) _tile_stored(2, totals + 2 * kTile, kRowBytes);
  if constexpr (kBlocks > 1) {
    _tile_stored(3, totals + kTerms * kTile, kRowBytes);
    if constexpr (kTerms > 1) _tile_stored(4, totals + (kTerms + 1) * kTile, kRowBytes);
    if constexpr (kTerms > 2) _tile_stored(5, totals + (kTerms + 2) * kTile, kRowBytes);
  }
  asm volatile("" : : : "memory");
}

// y [16 kBlocks, 16] = the product of rows and a panel, plus its base, or plus y if kAdd.
template <int kTerms, int kBlocks, bool kAdd>
inline void MultiplyByteTiles(const uint8_t* rows, int64_t stride, const float* panel, int64_t words, float* y, int64_t y_stride) {
  alignas(64) int32_t totals[kBlocks][kTerms][kByteTileRows][kLanes];
  const float* start = panel + 2 * kLanes;
  SumByteTiles<kTerms, kBlocks>(rows, stride, reinterpret_cast<const int32_t*>(start), reinterpret_cast<const int8_t*>(start + kTerms * kLanes), words,
                                totals[0][0][0]);
  const Simd step = LoadSimd(panel), base = LoadSimd(panel + kLanes);
  for (int block = 0; block < kBlocks; block++) {
    for (int r = 0; r < kByteTileRows; r++) {
      Simd sum = ToFloats(LoadInts(totals[block][kTerms - 1][r]));
      for (int i = kTerms - 2; i >= 0; i--) sum = sum * (1 / kTermRatio) + ToFloats(LoadInts(totals[block][i][r]));
      float* to = y + (block * kByteTileRows + r) * y_stride;
      Store(to, sum * step + (kAdd ? LoadSimd(to) : base));
    }
  }
}

// Computes the products of the first rows in tiles; returns their number, a multiple of 16. Without kAdd, the last tile may overlap the previous one, with equal
// results, so that only fewer than 16 rows remain.
template <int kTerms, bool kAdd>
inline int64_t MultiplyByteTileRows(const uint8_t* features, int64_t rows, int64_t stride, const float* panel, int64_t words, const float* next_panel, float* y,
                                    int64_t y_stride) {
  if (words % kByteTileWords != 0) return 0;
  int64_t r = 0;
  for (; r + 2 * kByteTileRows <= rows; r += 2 * kByteTileRows) {
    if (next_panel != nullptr) PrefetchShare(next_panel, words * kTerms, r, rows, 2 * kByteTileRows);
    MultiplyByteTiles<kTerms, 2, kAdd>(features + r * stride, stride, panel, words, y + r * y_stride, y_stride);
  }
  for (; r + kByteTileRows <= rows; r += kByteTileRows) {
    MultiplyByteTiles<kTerms, 1, kAdd>(features + r * stride, stride, panel, words, y + r * y_stride, y_stride);
  }
  if (kAdd || r == 0 || r == rows) return r;
  const int64_t at = rows - kByteTileRows;
  MultiplyByteTiles<kTerms, 1, kAdd>(features + at * stride, stride, panel, words, y + at * y_stride, y_stride);
  return rows;
}

}  // namespace nextvlad

#endif
