// Training's two products with the features, which are bytes, on the left: x w in the forward pass and x^T d in the backward pass.
#include <cmath>
#include <vector>

#include "byte_panels.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

constexpr int64_t kForwardRows = 320;  // rows of bytes that stay in the L2 cache for all panels
constexpr int64_t kForwardPanels = 8;
constexpr int kTerms = kMaxTerms;         // of a gradient: as exact as a float
constexpr int64_t kBackwardFrames = 768;  // frames whose panel fits the L1 cache, and whose bytes fit the L2 cache
constexpr int64_t kBackwardPanels = 4;

// Inputs: bytes (uint8, packed four to a float), panels of w and a bias (split.cc), and [frames, features, columns, terms]. Output: x w + bias [frames, columns].
void ByteProduct(Call& call) {
  const int32_t* n = call.Sizes(2, 4);
  const int64_t frames = n[0], features = n[1], columns = n[2];
  const PanelShape shape = ShapeOfPanels(features, n[3]);
  const int64_t panel_count = RoundUp(columns, kLanes) / kLanes;
  call.ExpectCount(1, panel_count * shape.floats());
  const float* panels = call.Input<float>(1);
  const ByteRows bytes(call.Bytes(0, frames * features), frames, features);
  float* y = call.Output(0, {frames, columns});
  const int64_t row_blocks = (frames + kForwardRows - 1) / kForwardRows, panel_groups = (panel_count + kForwardPanels - 1) / kForwardPanels;
  ForEachItem(row_blocks * panel_groups, [&](const auto& next) {
    // Buffered: the rows of y are a multiple of 4 KiB apart, so that writing one panel after another would evict the same cache lines.
    constexpr int64_t kWidth = kForwardPanels * kLanes;
    Floats block(kForwardRows * kWidth);
    for (int64_t item; next(&item);) {
      const int64_t row = item / panel_groups * kForwardRows, rows = std::min(kForwardRows, frames - row);
      const int64_t first = item % panel_groups * kForwardPanels, last = std::min(panel_count, first + kForwardPanels);
      for (int64_t p = first; p < last; p++) {
        MultiplyPanel(bytes.row(row), rows, bytes.stride(), panels + p * shape.floats(), shape, block.data() + (p - first) * kLanes, kWidth);
      }
      const int64_t width = std::min(columns - first * kLanes, kWidth);
      for (int64_t t = 0; t < rows; t++) std::memcpy(y + (row + t) * columns + first * kLanes, block.data() + t * kWidth, width * sizeof(float));
    }
  });
}

// [frames, features] to [features, stride], padded with zeros.
std::vector<uint8_t> Transpose(const uint8_t* bytes, int64_t frames, int64_t features, int64_t stride) {
  constexpr int64_t kBlock = 64;
  std::vector<uint8_t> transposed(features * stride, 0);
  ParallelFor((features + kBlock - 1) / kBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t f0 = begin * kBlock; f0 < std::min(features, end * kBlock); f0 += kBlock) {
      for (int64_t t0 = 0; t0 < frames; t0 += kBlock) {
        for (int64_t f = f0; f < std::min(features, f0 + kBlock); f++) {
          for (int64_t t = t0; t < std::min(frames, t0 + kBlock); t++) transposed[f * stride + t] = bytes[t * features + f];
        }
      }
    }
  });
  return transposed;
}

// Splits up to kBackwardFrames rows and 16 columns of d into a panel, whose quads are four frames each. Adds d to the columns' sums.
void SplitFrames(const float* d, int64_t frames, int64_t stride, int64_t columns, float* panel, double* sums) {
  alignas(64) float rows[kBackwardFrames][kLanes];
  const int64_t quads = RoundUp(frames, 4) / 4;
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

// Inputs: bytes (uint8, packed four to a float), d [frames, columns], the features' scale and offset [features]. Output: x^T d [features, columns].
void ByteProductTransposed(Call& call) {
  const auto shape = call.Expect(1, {Call::kAny, Call::kAny});
  const int64_t frames = shape[0], columns = shape[1], features = call.Expect(2, {Call::kAny})[0];
  call.Expect(3, {features});
  const float* d = call.Input<float>(1);
  const float* scale = call.Input<float>(2);
  const float* offset = call.Input<float>(3);
  const int64_t stride = RoundUp(frames, 64);
  const std::vector<uint8_t> bytes = Transpose(call.Bytes(0, frames * features), frames, features, stride);
  float* y = call.Output(0, {features, columns});
  const int64_t width = kBackwardPanels * kLanes;
  const PanelShape largest{kBackwardFrames / 4, kTerms};
  ForEachItem((columns + width - 1) / width, [&](const auto& next) {
    Floats panels(kBackwardPanels * largest.floats()), sums(features * width);
    for (int64_t item; next(&item);) {
      const int64_t first = item * width, count = std::min(width, columns - first), panel_count = RoundUp(count, kLanes) / kLanes;
      double totals[kBackwardPanels * kLanes] = {};
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t t = 0; t < frames; t += kBackwardFrames) {
        const int64_t rows = std::min(kBackwardFrames, frames - t), quads = RoundUp(rows, 4) / 4;
        for (int64_t p = 0; p < panel_count; p++) {
          float* panel = panels.data() + p * largest.floats();
          const int64_t column = first + p * kLanes;
          SplitFrames(d + t * columns + column, rows, columns, std::min<int64_t>(kLanes, columns - column), panel, totals + p * kLanes);
          constexpr int kRows = kByteTileRows<kTerms>;
          int64_t f = 0;
          for (; f + kRows <= features; f += kRows) {
            MultiplyByteTile<kTerms, kRows, true>(bytes.data() + f * stride + t, stride, panel, quads, sums.data() + f * width + p * kLanes, width);
          }
          for (; f < features; f++) {
            MultiplyByteTile<kTerms, 1, true>(bytes.data() + f * stride + t, stride, panel, quads, sums.data() + f * width + p * kLanes, width);
          }
        }
      }
      for (int64_t f = 0; f < features; f++) {
        const double factor = scale[f], constant = kCenter * factor + offset[f];
        for (int64_t c = 0; c < count; c++) y[f * columns + first + c] = factor * sums[f * width + c] + constant * totals[c];
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
