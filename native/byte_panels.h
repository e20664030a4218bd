// Products with bytes on the left, summed exactly in integers: with AVX512-VNNI one instruction multiplies 64 bytes, so that weights of three terms cost 3/4
// of a float product, of two terms half, of one term a quarter.
//
// A weight is w = step (q1 + q2 / 254 + q3 / 254^2), with one step per column and int8 values q. Three terms are exact to 2^-24 of the column's largest weight,
// the precision of a float. A feature is u scale + offset. With centered bytes, u = 128 + v, a column's product is
//   step (sum v q1 + sum v q2 / 254 + ...) + base,   base = sum (128 scale + offset) w + bias,
// so that the bytes' large common part costs no precision.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernel.h"
#include "vector.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

namespace nextvlad {

constexpr int kCenter = 128;
constexpr float kTermRatio = 254.0f;
constexpr int kMaxTerms = 3;

#ifdef __AVX512VNNI__
constexpr bool kByteInstructions = true;
using Ints = __m512i;
inline Ints Broadcast(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints LoadInts(const void* from) { return _mm512_loadu_si512(from); }
inline void StoreInts(void* to, Ints x) { _mm512_storeu_si512(to, x); }
// Adds the products of four bytes to each of 16 sums.
inline Ints MultiplyBytes(Ints sums, Ints bytes, Ints weights) { return _mm512_dpbusd_epi32(sums, bytes, weights); }
inline Vector ToFloats(Ints x) { return (Vector)_mm512_cvtepi32_ps(x); }
#else
constexpr bool kByteInstructions = false;
typedef int32_t Ints __attribute__((vector_size(64)));
inline Ints Broadcast(int32_t x) { return Ints{} + x; }
inline Ints LoadInts(const void* from) {
  Ints x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}
inline void StoreInts(void* to, Ints x) { std::memcpy(to, &x, sizeof(x)); }
inline Ints MultiplyBytes(Ints sums, Ints bytes, Ints weights) {
  for (int byte = 0; byte < 4; byte++) sums += ((bytes >> (8 * byte)) & 255) * ((weights << (24 - 8 * byte)) >> 24);
  return sums;
}
inline Vector ToFloats(Ints x) { return __builtin_convertvector(x, Vector); }
#endif

// A panel is 16 columns of weights: step [16], base [16], the initial sums [terms][16] int32, and the terms [quads][terms][16][4] int8. A quad is four rows.
struct PanelShape {
  int64_t quads;
  int terms;
  int64_t floats() const { return (2 + terms + quads * terms) * kLanes; }
};

inline PanelShape ShapeOfPanels(int64_t features, int terms) {
  Call::Require(terms >= 1 && terms <= kMaxTerms, "a weight has " + std::to_string(terms) + " terms, expected 1 to " + std::to_string(kMaxTerms));
  return {RoundUp(features, 4) / 4, terms};
}

// With 24 sums, the weights and one row of bytes, 28 of 32 registers are in use.
template <int kTerms>
constexpr int kByteTileRows = 24 / kTerms;

// y = the product of kRows rows of bytes and one panel; added to y if kAdd. All sums stay in registers, from the first quad to the last.
template <int kTerms, int kRows, bool kAdd = false>
[[gnu::noinline]] void MultiplyByteTile(const uint8_t* bytes, int64_t stride, const float* panel, int64_t quads, float* y, int64_t y_stride) {
  const float* start = panel + 2 * kLanes;
  const float* terms = start + kTerms * kLanes;
  Ints sums[kRows][kTerms];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int i = 0; i < kTerms; i++) sums[r][i] = LoadInts(start + i * kLanes);
  }
  for (int64_t quad = 0; quad < quads; quad++) {
    Ints weights[kTerms];
#pragma GCC unroll 8
    for (int i = 0; i < kTerms; i++) weights[i] = LoadInts(terms + (quad * kTerms + i) * kLanes);
#pragma GCC unroll 24
    for (int r = 0; r < kRows; r++) {
      int32_t four;
      std::memcpy(&four, bytes + r * stride + quad * 4, 4);
      const Ints row = Broadcast(four);
#pragma GCC unroll 8
      for (int i = 0; i < kTerms; i++) sums[r][i] = MultiplyBytes(sums[r][i], row, weights[i]);
    }
  }
  // The sums pass through memory that is opaque to the compiler: g++ 12 would otherwise keep them in memory in the loop above, which takes twice as long.
  Ints totals[kRows * kTerms];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int i = 0; i < kTerms; i++) StoreInts(totals + r * kTerms + i, sums[r][i]);
  }
  asm volatile("" : : "r"(totals) : "memory");
  const Vector step = Load(panel), base = Load(panel + kLanes);
  for (int r = 0; r < kRows; r++) {
    Vector sum = ToFloats(totals[r * kTerms + kTerms - 1]);
    for (int i = kTerms - 2; i >= 0; i--) sum = sum * (1 / kTermRatio) + ToFloats(totals[r * kTerms + i]);
    sum = sum * step + base;
    if constexpr (kAdd) sum += Load(y + r * y_stride);
    Store(y + r * y_stride, sum);
  }
}

template <int kTerms>
inline void MultiplyRows(const uint8_t* bytes, int64_t rows, int64_t stride, const float* panel, int64_t quads, float* y, int64_t y_stride) {
  constexpr int kRows = kByteTileRows<kTerms>;
  if (rows < kRows) {
    for (int64_t r = 0; r < rows; r++) MultiplyByteTile<kTerms, 1>(bytes + r * stride, stride, panel, quads, y + r * y_stride, y_stride);
    return;
  }
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t at = std::min<int64_t>(r, rows - kRows);  // the last tile overlaps the previous one, with equal results
    MultiplyByteTile<kTerms, kRows>(bytes + at * stride, stride, panel, quads, y + at * y_stride, y_stride);
  }
}

// y [rows, 16] = bytes [rows, 4 quads] times one panel.
inline void MultiplyPanel(const uint8_t* bytes, int64_t rows, int64_t stride, const float* panel, const PanelShape& shape, float* y, int64_t y_stride) {
  if (shape.terms == 1) return MultiplyRows<1>(bytes, rows, stride, panel, shape.quads, y, y_stride);
  if (shape.terms == 2) return MultiplyRows<2>(bytes, rows, stride, panel, shape.quads, y, y_stride);
  MultiplyRows<3>(bytes, rows, stride, panel, shape.quads, y, y_stride);
}

// Rows of bytes, padded so that the last quad of a row can be read.
class ByteRows {
 public:
  ByteRows(const uint8_t* bytes, int64_t rows, int64_t features) : bytes_(bytes), stride_(RoundUp(features, 4)) {
    if (stride_ == features) return;
    padded_.resize(rows * stride_);
    for (int64_t t = 0; t < rows; t++) std::memcpy(padded_.data() + t * stride_, bytes + t * features, features);
    bytes_ = padded_.data();
  }
  const uint8_t* row(int64_t t) const { return bytes_ + t * stride_; }
  int64_t stride() const { return stride_; }

 private:
  const uint8_t* bytes_;
  int64_t stride_;
  std::vector<uint8_t> padded_;
};

}  // namespace nextvlad
