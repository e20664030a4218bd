// Products of features, which are bytes, and weights in panels of 16 columns. What a panel holds depends on the processor:
// - with VNNI one instruction multiplies 64 bytes (32 with AVX-VNNI, 16,384 with AMX), so weights are split into one to three 8-bit terms, and the features stay
//   bytes;
// - without it, weights of three terms are floats, because three byte products would cost more than a float's; weights of two terms are 16-bit integers, of which
//   one instruction multiplies twice as many as floats; weights of one term are 7-bit integers, of which it multiplies four times as many.
//
// In 8-bit terms, a weight is w = step (q1 + q2 / 254 + q3 / 254^2), with one step per column and int8 values q. Three terms are exact to 2^-24 of the column's
// largest weight, the precision of a float; two terms and 16-bit integers to 2^-16; one term to 2^-8, or 2^-7
// without VNNI. A feature is u scale + offset. With centered bytes,
// u = 128 + v, a column's product is
//   step (sum v q1 + sum v q2 / 254 + ...) + base,   base = sum (128 scale + offset) w + bias,
// so that the bytes' large common part costs no precision.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "byte_tiles.h"
#include "integers.h"
#include "kernel.h"
#include "register_tile.h"
#include "vector.h"

namespace nextvlad {

constexpr int kCenter = 128;
constexpr int kMaxTerms = 3;
constexpr int kPanelRegisters = kLanes / kSimdLanes;

// How integers are multiplied: the types of features and weights, what is added to a centered feature, the largest weight, the 32-bit words of products that a
// sum of 32 bits holds, and the product of one word.
struct ByteProducts {
  using Feature = uint8_t;
  using Weight = int8_t;
  static constexpr int kOffset = kCenter;  // features are not centered: a panel's initial sums are
  // Without byte instructions, products are summed in pairs of 16 bits, which 2 * 255 * 64 would come close to overflowing.
  static constexpr int kMaxWeight = kByteInstructions ? 127 : 63;
  static constexpr int64_t kMaxWords = INT64_MAX;
  static Ints Add(Ints sums, Ints features, Ints weights) { return AddByteProducts(sums, features, weights); }
};
struct PairProducts {
  using Feature = int16_t;
  using Weight = int16_t;
  static constexpr int kOffset = 0;
  static constexpr int kMaxWeight = 32767;
  static constexpr int64_t kMaxWords = 256;  // more than 512 products of a feature (up to 128) and a weight can overflow 32 bits
  static Ints Add(Ints sums, Ints features, Ints weights) { return AddInts(sums, MultiplyPairs(features, weights)); }
};
// Features or weights in 32 bits.
template <class Products>
constexpr int kPerWord = sizeof(int32_t) / sizeof(typename Products::Feature);

// The size of a panel.
// Integers: step [16], base [16], the initial sums [terms][16] int32, and the weights [words][terms][16][features per word].
// Floats: base [16] and the weights [features][16].
struct PanelShape {
  int64_t features;
  int terms;
  bool is_float() const { return !kByteInstructions && terms == kMaxTerms; }
  bool is_pairs() const { return !kByteInstructions && terms == 2; }
  int integer_terms() const { return is_pairs() ? 1 : terms; }
  int per_word() const { return is_pairs() ? kPerWord<PairProducts> : kPerWord<ByteProducts>; }
  int64_t words() const { return RoundUp(features, per_word()) / per_word(); }
  int64_t floats() const { return is_float() ? (1 + features) * kLanes : (2 + integer_terms() + words() * integer_terms()) * kLanes; }
};

inline PanelShape ShapeOfPanels(int64_t features, int terms) {
  Call::Require(terms >= 1 && terms <= kMaxTerms, "a weight has " + std::to_string(terms) + " terms, expected 1 to " + std::to_string(kMaxTerms));
  return {features, terms};
}

// The shape of a tile of integer sums, `kTerms` for each row and column, that fits the registers: 24 of AVX-512's 32, 12 of 16.
constexpr int kIntegerSums = kSimdLanes == 16 ? 24 : 12;
template <int kTerms>
constexpr int kIntegerTileRegisters = kTerms == 1 ? std::min(2, kPanelRegisters) : 1;
template <int kTerms>
constexpr int kIntegerTileRows = kIntegerSums / kTerms / kIntegerTileRegisters<kTerms>;

// y [kRows, kRegisters of columns] = the product of rows, whose words are `stride` apart, and `words` words of a panel from `first_word`. Adds to y if kAdd.
// All sums stay in registers, from the first word to the last.
template <class Products, int kTerms, int kRows, int kRegisters, bool kAdd>
[[gnu::noinline]] void MultiplyIntegerTile(const typename Products::Feature* rows, int64_t stride, const float* panel, int column, int64_t first_word, int64_t words,
                                           float* y, int64_t y_stride) {
  const float* start = panel + 2 * kLanes + column;
  const float* weights = start + (kTerms + first_word * kTerms) * kLanes;
  Ints sums[kRows][kTerms][kRegisters];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int i = 0; i < kTerms; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < kRegisters; j++) sums[r][i][j] = LoadInts(start + i * kLanes + j * kSimdLanes);
    }
  }
  for (int64_t word = 0; word < words; word++) {
    Ints w[kTerms][kRegisters];
#pragma GCC unroll 8
    for (int i = 0; i < kTerms; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < kRegisters; j++) w[i][j] = LoadInts(weights + (word * kTerms + i) * kLanes + j * kSimdLanes);
    }
#pragma GCC unroll 24
    for (int r = 0; r < kRows; r++) {
      int32_t features;
      std::memcpy(&features, rows + r * stride + word * kPerWord<Products>, sizeof(features));
      const Ints row = Broadcast(features);
#pragma GCC unroll 8
      for (int i = 0; i < kTerms; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < kRegisters; j++) sums[r][i][j] = Products::Add(sums[r][i][j], row, w[i][j]);
      }
    }
  }
  // The sums pass through memory that is opaque to the compiler: g++ 12 would otherwise keep them in memory in the loop above, which takes twice as long.
  Ints totals[kRows * kTerms * kRegisters];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int i = 0; i < kTerms; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < kRegisters; j++) StoreInts(totals + (r * kTerms + i) * kRegisters + j, sums[r][i][j]);
    }
  }
  asm volatile("" : : "r"(totals) : "memory");
  for (int j = 0; j < kRegisters; j++) {
    const Simd step = LoadSimd(panel + column + j * kSimdLanes), base = LoadSimd(panel + kLanes + column + j * kSimdLanes);
    for (int r = 0; r < kRows; r++) {
      Simd sum = ToFloats(totals[(r * kTerms + kTerms - 1) * kRegisters + j]);
      for (int i = kTerms - 2; i >= 0; i--) sum = sum * (1 / kTermRatio) + ToFloats(totals[(r * kTerms + i) * kRegisters + j]);
      float* to = y + r * y_stride + j * kSimdLanes;
      Store(to, sum * step + (kAdd ? LoadSimd(to) : base));
    }
  }
}

// The same for all columns and words of a panel.
template <class Products, int kTerms, int kRows, bool kAdd>
inline void MultiplyIntegers(const typename Products::Feature* rows, int64_t stride, const float* panel, int64_t words, float* y, int64_t y_stride) {
  constexpr int kRegisters = kIntegerTileRegisters<kTerms>;
  constexpr int64_t kMaxWords = Products::kMaxWords;
  for (int column = 0; column < kLanes; column += kRegisters * kSimdLanes) {
    MultiplyIntegerTile<Products, kTerms, kRows, kRegisters, kAdd>(rows, stride, panel, column, 0, std::min(words, kMaxWords), y + column, y_stride);
    for (int64_t word = kMaxWords; word < words; word += kMaxWords) {
      MultiplyIntegerTile<Products, kTerms, kRows, kRegisters, true>(rows + word * kPerWord<Products>, stride, panel, column, word, std::min(words - word, kMaxWords), y + column,
                                                           y_stride);
    }
  }
}

// y [rows, 16] = the product of rows and a panel of integers, plus its base, or plus y if kAdd. Prefetches the next panel unless it is null.
template <class Products, int kTerms, bool kAdd>
void MultiplyIntegerRows(const typename Products::Feature* features, int64_t rows, int64_t stride, const float* panel, int64_t words, const float* next_panel,
                         float* y, int64_t y_stride) {
  constexpr int kRows = kIntegerTileRows<kTerms>;
  int64_t r = 0;
#if defined(__AMX_INT8__)
  if constexpr (std::is_same_v<Products, ByteProducts>) r = MultiplyByteTileRows<kTerms, kAdd>(features, rows, stride, panel, words, next_panel, y, y_stride);
#endif
  for (; r + kRows <= rows; r += kRows) {
    if (next_panel != nullptr) PrefetchShare(next_panel, words * kTerms, r, rows, kRows);
    MultiplyIntegers<Products, kTerms, kRows, kAdd>(features + r * stride, stride, panel, words, y + r * y_stride, y_stride);
  }
  if (!kAdd && r < rows && rows >= kRows) {
    r = rows - kRows;  // the last tile overlaps the previous one, with equal results
    MultiplyIntegers<Products, kTerms, kRows, false>(features + r * stride, stride, panel, words, y + r * y_stride, y_stride);
    return;
  }
  for (; r < rows; r++) MultiplyIntegers<Products, kTerms, 1, kAdd>(features + r * stride, stride, panel, words, y + r * y_stride, y_stride);
}

// Rows and registers of a tile of a product of floats and a panel: 14 sums of AVX-512's 32 registers, 12 of AVX2's 16.
constexpr int kFloatTileRows = kSimdLanes == 16 ? 14 : kSimdLanes == 8 ? 6 : 3;
using FloatTile = RegisterTile<kFloatTileRows, kPanelRegisters>;
// Columns of a tile's rows and rows of a panel that are multiplied at a time: they fit the L1 cache.
constexpr int64_t kTermBlock = 256;

// Where products with panels go: panel p's 16 columns of row r to values + p panel_step + r row_step.
struct PanelOutput {
  float* values;
  int64_t panel_step, row_step;
};

// y = rows times panels, plus the panels' base, or plus y if kAdd. Writes whole tiles of rows.
template <bool kAdd>
inline void MultiplyFloats(const FloatBlocks& x, int64_t first_row, int64_t rows, const float* panels, int64_t panel_count, const PanelOutput& y) {
  const int64_t panel_floats = (1 + x.columns) * kLanes;
  for (int64_t first = 0; first < x.columns; first += kTermBlock) {
    const int64_t terms = std::min(kTermBlock, x.columns - first);
    for (int64_t p = 0; p < panel_count; p++) {
      const float *panel = panels + p * panel_floats, *weights = panel + (1 + first) * kLanes;
      // The next panel's block, or the next block of the first panel.
      const float* next = p + 1 < panel_count ? weights + panel_floats : panels + (1 + first + terms) * kLanes;
      for (int64_t r = 0; r < rows; r += kFloatTileRows) {
        PrefetchShare(next, kTermBlock, r, rows, kFloatTileRows);
        float* to = y.values + p * y.panel_step + r * y.row_step;
        const bool add = kAdd || first > 0;
        MultiplyBlockedTile<kFloatTileRows, kPanelRegisters>(x.at(first, first_row + r), x.rows * kLanes, weights, terms, add ? to : panel, add ? y.row_step : 0, to, y.row_step);
      }
    }
  }
}

// to = the values of bytes minus `center`.
template <class T>
void ConvertBytes(const uint8_t* bytes, int64_t count, int center, T* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) to[i] = static_cast<T>(static_cast<int32_t>(bytes[i]) - center);
}

// Rows of features in the form that the products with panels read.
class FeatureRows {
 public:
  explicit FeatureRows(const PanelShape& shape) : shape_(shape) {}

  // Converts rows of bytes, [rows, features]. Bytes that need no conversion must outlive the products.
  void Set(const uint8_t* bytes, int64_t rows) {
    const int64_t features = shape_.features;
    if (shape_.is_float()) {
      rows_ = RoundUp(rows, kFloatTileRows);
      floats_.resize(RoundUp(features, kLanes) * rows_);
      for (int64_t f = 0; f < features; f += kLanes) {
        float* block = floats_.data() + f * rows_;
        const int64_t count = std::min<int64_t>(kLanes, features - f);
        for (int64_t t = 0; t < rows; t++) {
          if (count == kLanes) {
            ConvertBytes(bytes + t * features + f, kLanes, kCenter, block + t * kLanes);
          } else {
            std::fill(block + t * kLanes, block + (t + 1) * kLanes, 0.0f);
            ConvertBytes(bytes + t * features + f, count, kCenter, block + t * kLanes);
          }
        }
        std::fill(block + rows * kLanes, block + rows_ * kLanes, 0.0f);
      }
      return;
    }
    stride_ = RoundUp(features, shape_.per_word());
    if (shape_.is_pairs()) {
      pairs_.resize(rows * stride_, 0);
      for (int64_t t = 0; t < rows; t++) ConvertBytes(bytes + t * features, features, kCenter, pairs_.data() + t * stride_);
      return;
    }
    bytes_ = bytes;
    if (stride_ == features) return;
    padded_.resize(rows * stride_, 0);
    for (int64_t t = 0; t < rows; t++) std::memcpy(padded_.data() + t * stride_, bytes + t * features, features);
    bytes_ = padded_.data();
  }

  // Floats only.
  FloatBlocks blocks() const { return {floats_.data(), rows_, shape_.features}; }

  // y = rows [first, first + rows) times panels. Floats are written in whole tiles of kFloatTileRows rows; `first` is a multiple of it.
  void Multiply(int64_t first, int64_t rows, const float* panels, int64_t count, const PanelOutput& y) const {
    if (shape_.is_float()) return MultiplyFloats<false>(blocks(), first, rows, panels, count, y);
#if defined(__AMX_INT8__)
    const ByteTileRegisters registers;
#endif
    if (shape_.is_pairs()) return MultiplyIntegers<PairProducts, 1>(pairs_.data() + first * stride_, rows, panels, count, y);
    const uint8_t* from = bytes_ + first * stride_;
    if (shape_.terms == 1) return MultiplyIntegers<ByteProducts, 1>(from, rows, panels, count, y);
    if (shape_.terms == 2) return MultiplyIntegers<ByteProducts, 2>(from, rows, panels, count, y);
    MultiplyIntegers<ByteProducts, 3>(from, rows, panels, count, y);
  }

 private:
  template <class Products, int kTerms>
  void MultiplyIntegers(const typename Products::Feature* from, int64_t rows, const float* panels, int64_t count, const PanelOutput& y) const {
    const int64_t panel_floats = shape_.floats();
    for (int64_t p = 0; p < count; p++) {
      const float* panel = panels + p * panel_floats;
      MultiplyIntegerRows<Products, kTerms, false>(from, rows, stride_, panel, shape_.words(), panel + panel_floats, y.values + p * y.panel_step, y.row_step);
    }
  }

  PanelShape shape_;
  int64_t rows_ = 0, stride_ = 0;
  const uint8_t* bytes_ = nullptr;
  std::vector<uint8_t, LineAllocator<uint8_t>> padded_;
  std::vector<int16_t, LineAllocator<int16_t>> pairs_;
  Floats floats_;
};

}  // namespace nextvlad
