// Training's two products with the features, which are bytes, on the left: x w in the forward pass and x^T d in the backward pass.
#include <cmath>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "panels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

constexpr int64_t kForwardRows = kByteInstructions ? 320 : 96;  // rows of features that stay in the L2 cache for all panels
constexpr int64_t kForwardPanels = 8;

// Inputs: bytes (uint8, packed four to a float), panels of w and a bias (split.cc), and [frames, features, columns, terms]. Output: x w + bias [frames, columns].
void ByteProduct(Call& call) {
  const int32_t* n = call.Sizes(2, 4);
  const int64_t frames = n[0], features = n[1], columns = n[2];
  const PanelShape shape = ShapeOfPanels(features, n[3]);
  const int64_t panel_count = RoundUp(columns, kLanes) / kLanes;
  call.ExpectCount(1, panel_count * shape.floats());
  const float* panels = call.Input<float>(1);
  const uint8_t* bytes = call.Bytes(0, frames * features);
  float* y = call.Output(0, {frames, columns});
  const int64_t row_blocks = (frames + kForwardRows - 1) / kForwardRows, panel_groups = (panel_count + kForwardPanels - 1) / kForwardPanels;
  ForEachItem(row_blocks * panel_groups, [&](const auto& next) {
    // Buffered: the rows of y are a multiple of 4 KiB apart, so that writing one panel after another would evict the same cache lines.
    constexpr int64_t kWidth = kForwardPanels * kLanes;
    Floats block(RoundUp(kForwardRows, kFloatTileRows) * kWidth);
    FeatureRows feature_rows(shape);
    for (int64_t item; next(&item);) {
      const int64_t row = item / panel_groups * kForwardRows, rows = std::min(kForwardRows, frames - row);
      const int64_t first = item % panel_groups * kForwardPanels, last = std::min(panel_count, first + kForwardPanels);
      feature_rows.Set(bytes + row * features, rows);
      feature_rows.Multiply(0, rows, panels + first * shape.floats(), last - first, {block.data(), kLanes, kWidth});
      const int64_t width = std::min(columns - first * kLanes, kWidth);
      for (int64_t t = 0; t < rows; t++) std::memcpy(y + (row + t) * columns + first * kLanes, block.data() + t * kWidth, width * sizeof(float));
    }
  });
}

// Transposes a square of 8 bytes by 8 by exchanging ever smaller blocks, in registers: the compiler moves byte by byte, which takes four times as long.
void TransposeBytes(const uint8_t* from, int64_t from_step, uint8_t* to, int64_t to_step) {
  uint64_t rows[8];
  for (int i = 0; i < 8; i++) std::memcpy(&rows[i], from + i * from_step, 8);
  const auto exchange = [&](int distance, uint64_t mask) {
    const int bits = 8 * distance;
    for (int i = 0; i < 8; i++) {
      if (i & distance) continue;
      const uint64_t swapped = ((rows[i] >> bits) ^ rows[i + distance]) & mask;
      rows[i] ^= swapped << bits;
      rows[i + distance] ^= swapped;
    }
  };
  exchange(4, 0x00000000ffffffff);
  exchange(2, 0x0000ffff0000ffff);
  exchange(1, 0x00ff00ff00ff00ff);
  for (int i = 0; i < 8; i++) std::memcpy(to + i * to_step, &rows[i], 8);
}

// Bytes [features, stride] from [frames, features], padded with zeros.
struct TransposedBytes {
  int64_t features, stride;
  std::vector<uint8_t> bytes;

  TransposedBytes(const uint8_t* from, int64_t frames, int64_t features)
      : features(features), stride(RoundUp(frames, 64)), bytes(features * stride, 0) {
    constexpr int64_t kBlock = 64, kSquare = 8;
    ParallelFor((features + kBlock - 1) / kBlock, [&](int64_t begin, int64_t end, int) {
      for (int64_t f0 = begin * kBlock; f0 < std::min(features, end * kBlock); f0 += kBlock) {
        const int64_t f1 = std::min(features, f0 + kBlock);
        for (int64_t t0 = 0; t0 < frames; t0 += kSquare) {
          const int64_t t1 = std::min(frames, t0 + kSquare);
          int64_t f = f0;
          for (; t1 - t0 == kSquare && f + kSquare <= f1; f += kSquare) TransposeBytes(from + t0 * features + f, features, &bytes[f * stride + t0], stride);
          for (; f < f1; f++) {
            for (int64_t t = t0; t < t1; t++) bytes[f * stride + t] = from[t * features + f];
          }
        }
      }
    });
  }
  const uint8_t* at(int64_t feature, int64_t frame) const { return bytes.data() + feature * stride + frame; }
};

// Blocks of frames that are multiplied at a time: each adds the products of transposed bytes and d to sums [features, kWidth].
#ifndef NEXTVLAD_NO_BYTE_INSTRUCTIONS

constexpr int kTerms = kMaxTerms;  // of a gradient: as exact as a float
constexpr int64_t kFrames = 768;   // whose panel fits the L1 cache, and whose bytes fit the L2 cache
constexpr int64_t kPanels = 4;
constexpr int64_t kWidth = kPanels * kLanes;

// Words of four frames, the last ones padded with zeros, so that AMX's tiles are full.
int64_t QuadsOf(int64_t frames) { return RoundUp(frames, 64) / 4; }

// Splits up to kFrames rows and 16 columns of d into a panel of 8-bit terms, whose words are four frames each. Adds d to the columns' sums.
void WritePanel(const float* d, int64_t frames, int64_t stride, int64_t columns, float* panel, double* sums) {
  alignas(64) float rows[kFrames][kLanes];
  const int64_t quads = QuadsOf(frames);
  alignas(64) float largest[kLanes] = {}, run[kLanes] = {}, inverse[kLanes];
  for (int64_t t = 0; t < frames; t++) {
    if (columns == kLanes) {
      std::memcpy(rows[t], d + t * stride, sizeof(rows[t]));
    } else {
      for (int64_t c = 0; c < kLanes; c++) rows[t][c] = c < columns ? d[t * stride + c] : 0;
    }
    if (t + 8 < frames) __builtin_prefetch(d + (t + 8) * stride);
#pragma omp simd
    for (int c = 0; c < kLanes; c++) {
      const float size = std::abs(rows[t][c]);
      largest[c] = size > largest[c] ? size : largest[c];
      run[c] += rows[t][c];
    }
    if (t % 32 == 31 || t == frames - 1) {
      for (int c = 0; c < kLanes; c++) sums[c] += run[c], run[c] = 0;
    }
  }
  for (int64_t t = frames; t < quads * 4; t++) std::memset(rows[t], 0, sizeof(rows[t]));
  for (int c = 0; c < kLanes; c++) {
    // A little less than 127 / largest, so that no term is rounded to more than 127.
    inverse[c] = largest[c] > 0 ? 126.9999f / largest[c] : 0;
    if (!std::isfinite(inverse[c])) inverse[c] = 0;  // gradients below 1e-36 become zero
    panel[c] = inverse[c] > 0 ? 1 / inverse[c] : 0;
    panel[kLanes + c] = 0;
  }
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded value in the low bits
  int32_t start[kTerms][kLanes] = {};
  int32_t* terms = reinterpret_cast<int32_t*>(panel + (2 + kTerms) * kLanes);
  for (int64_t quad = 0; quad < quads; quad++) {
    int32_t words[kTerms][kLanes] = {};
    for (int i = 0; i < 4; i++) {
      const float* row = rows[quad * 4 + i];
#pragma omp simd
      for (int c = 0; c < kLanes; c++) {
        float shifted = row[c] * inverse[c] + kRound, term = shifted - kRound;
        // Fused: the product must not be rounded.
        float rest = __builtin_fmaf(row[c], inverse[c], -term) * kTermRatio;
        for (int k = 0; k < kTerms; k++) {
          int32_t bits;
          std::memcpy(&bits, &shifted, 4);
          const int32_t value = bits - 0x4b400000;
          start[k][c] -= kCenter * value;
          words[k][c] |= (value & 255) << (8 * i);
          shifted = rest + kRound;
          rest = (rest - (shifted - kRound)) * kTermRatio;
        }
      }
    }
    std::memcpy(terms + quad * kTerms * kLanes, words, sizeof(words));
  }
  std::memcpy(panel + 2 * kLanes, start, sizeof(start));
}

class FrameBlock {
 public:
  // Adds the products with `frames` rows of up to 16 columns of d to sums [features, 16], and d to the columns' totals.
  void Add(const TransposedBytes& x, int64_t first_frame, int64_t frames, const float* d, int64_t stride, int64_t columns, float* sums, double* totals) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      WritePanel(d + c, frames, stride, std::min<int64_t>(kLanes, columns - c), panel_.data(), totals + c);
#if defined(__AMX_INT8__)
      const ByteTileRegisters registers;
#endif
      MultiplyIntegerRows<ByteProducts, kTerms, true>(x.at(0, first_frame), x.features, x.stride, panel_.data(), QuadsOf(frames), nullptr, sums + c, kWidth);
    }
  }

 private:
  Floats panel_ = Floats(PanelShape{kFrames, kTerms}.floats(), 0.0f);
};

#else

constexpr int64_t kFrames = kTermBlock;
constexpr int64_t kPanels = 8;
constexpr int64_t kWidth = kPanels * kLanes;

// Copies up to 16 columns of d to a panel [frames][16], and adds them to the columns' totals.
void WritePanel(const float* d, int64_t frames, int64_t stride, int64_t columns, float* panel, double* totals) {
  float run[kLanes] = {};
  for (int64_t t = 0; t < frames; t++) {
    float* row = panel + t * kLanes;
    for (int64_t c = 0; c < kLanes; c++) row[c] = c < columns ? d[t * stride + c] : 0;
    for (int c = 0; c < kLanes; c++) run[c] += row[c];
    if (t % 32 == 31 || t == frames - 1) {
      for (int c = 0; c < kLanes; c++) totals[c] += run[c], run[c] = 0;
    }
  }
}

// sums [kRows, 16] += rows of floats times a panel.
template <int kRows>
void AddTile(const float* rows, int64_t stride, const float* panel, int64_t frames, float* sums) {
  RegisterTile<kRows, kPanelRegisters> tile;
  tile.MultiplyAdd(rows, 1, stride, panel, kLanes, frames);
  tile.StoreSum(sums, kWidth, sums, kWidth);
}

class FrameBlock {
 public:
  // Adds the products with `frames` rows of d [frames, columns] to sums, and d to the columns' totals.
  void Add(const TransposedBytes& x, int64_t first_frame, int64_t frames, const float* d, int64_t stride, int64_t columns, float* sums, double* totals) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      WritePanel(d + c, frames, stride, std::min<int64_t>(kLanes, columns - c), panels_.data() + c * kFrames, totals + c);
    }
    for (int64_t first = 0; first < x.features; first += kRowsAtATime) {
      const int64_t count = std::min(kRowsAtATime, x.features - first);
      for (int64_t f = 0; f < count; f++) ConvertBytes(x.at(first + f, first_frame), frames, kCenter, rows_.data() + f * kStride);
      for (int64_t c = 0; c < columns; c += kLanes) {
        float* to = sums + first * kWidth + c;
        int64_t f = 0;
        for (; f + kFloatTileRows <= count; f += kFloatTileRows) {
          AddTile<kFloatTileRows>(rows_.data() + f * kStride, kStride, panels_.data() + c * kFrames, frames, to + f * kWidth);
        }
        for (; f < count; f++) AddTile<1>(rows_.data() + f * kStride, kStride, panels_.data() + c * kFrames, frames, to + f * kWidth);
      }
    }
  }

 private:
  static constexpr int64_t kRowsAtATime = 16 * kFloatTileRows;  // fit the L2 cache
  static constexpr int64_t kStride = kFrames + kLanes;          // not a multiple of 4 KiB
  Floats panels_ = Floats(kFrames * kWidth, 0.0f), rows_ = Floats(kRowsAtATime * kStride, 0.0f);
};

#endif

// Inputs: bytes (uint8, packed four to a float), d [frames, columns], the features' scale and offset [features]. Output: x^T d [features, columns].
void ByteProductTransposed(Call& call) {
  const auto shape = call.Expect(1, {Call::kAny, Call::kAny});
  const int64_t frames = shape[0], columns = shape[1], features = call.Expect(2, {Call::kAny})[0];
  call.Expect(3, {features});
  const float* d = call.Input<float>(1);
  const float* scale = call.Input<float>(2);
  const float* offset = call.Input<float>(3);
  const TransposedBytes bytes(call.Bytes(0, frames * features), frames, features);
  float* y = call.Output(0, {features, columns});
  ForEachItem((columns + kWidth - 1) / kWidth, [&](const auto& next) {
    FrameBlock block;
    Floats sums(features * kWidth);
    for (int64_t item; next(&item);) {
      const int64_t first = item * kWidth, count = std::min(kWidth, columns - first);
      double totals[kWidth] = {};
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t t = 0; t < frames; t += kFrames) {
        block.Add(bytes, t, std::min(kFrames, frames - t), d + t * columns + first, columns, count, sums.data(), totals);
      }
      for (int64_t f = 0; f < features; f++) {
        const double factor = scale[f], constant = kCenter * factor + offset[f];
        for (int64_t c = 0; c < count; c++) y[f * columns + first + c] = factor * sums[f * kWidth + c] + constant * totals[c];
      }
    }
  });
}

}  // namespace

std::string RegisterByteProducts() {
  std::string problem = Register<ByteProduct>("NextvladByteProduct", {"bytes: float", "panels: float", "sizes: int32"}, {"y: float"});
  if (!problem.empty()) return problem;
  return Register<ByteProductTransposed>("NextvladByteProductTransposed", {"bytes: float", "d: float", "scale: float", "offset: float"}, {"y: float"});
}

}  // namespace nextvlad
