// Converts weights to the panels of panels.h.
#include <cmath>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "panels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// 16 columns of weights with what converts features to floats; missing columns are zero.
struct Columns {
  const Floats& w;  // [features, 16], in a row: in the matrix, each row of a panel is in another page
  int64_t features;
  const float *bias, *scale, *offset;
  int64_t count;

  // A row's weights of centered bytes.
  void WriteRow(int64_t feature, double* row) const {
    const float* weights = w.data() + feature * kLanes;
    const double factor = scale[feature];
#pragma omp simd
    for (int c = 0; c < kLanes; c++) row[c] = weights[c] * factor;
  }

  // Each column's product with features of 128, plus the bias.
  void WriteBase(float* to) const {
    double base[kLanes] = {};
    for (int64_t f = 0; f < features; f++) {
      const float* weights = w.data() + f * kLanes;
      const double constant = static_cast<double>(kCenter) * scale[f] + offset[f];
#pragma omp simd
      for (int c = 0; c < kLanes; c++) base[c] += weights[c] * constant;
    }
    for (int c = 0; c < kLanes; c++) to[c] = c < count ? base[c] + bias[c] : 0;
  }
};

void WriteFloatPanel(const Columns& columns, float* panel) {
  columns.WriteBase(panel);
  float* weights = panel + kLanes;
  for (int64_t f = 0; f < columns.features; f++) {
    double row[kLanes];
    columns.WriteRow(f, row);
    for (int c = 0; c < kLanes; c++) weights[f * kLanes + c] = row[c];
  }
}

// Splits weights into integers. Missing columns, and features of the last word, are zero.
template <class Products>
void WriteIntegerPanel(const Columns& columns, const PanelShape& shape, float* panel) {
  alignas(64) double row[kLanes], largest[kLanes] = {}, inverse[kLanes];
  for (int64_t f = 0; f < columns.features; f++) {
    columns.WriteRow(f, row);
#pragma omp simd
    for (int c = 0; c < kLanes; c++) {
      const double size = std::abs(row[c]);
      largest[c] = size > largest[c] ? size : largest[c];
    }
  }
  for (int c = 0; c < kLanes; c++) {
    // The step is rounded to float first, so that the terms compensate for its rounding.
    panel[c] = std::nextafter(static_cast<float>(largest[c] / Products::kMaxWeight), INFINITY);
    inverse[c] = largest[c] > 0 ? 1 / static_cast<double>(panel[c]) : 0;
  }
  columns.WriteBase(panel + kLanes);
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding and subtracting it rounds as nearbyint does, in vectors
  constexpr int kBits = 32 / kPerWord<Products>;
  constexpr int32_t kMask = (int64_t{1} << kBits) - 1;
  const int count = shape.integer_terms();
  alignas(64) int32_t start[kMaxTerms][kLanes] = {};
  int32_t* to = reinterpret_cast<int32_t*>(panel + (2 + count) * kLanes);
  for (int64_t word = 0; word < shape.words(); word++) {
    alignas(64) int32_t words[kMaxTerms][kLanes] = {};
    for (int i = 0; i < kPerWord<Products> && word * kPerWord<Products> + i < columns.features; i++) {
      columns.WriteRow(word * kPerWord<Products> + i, row);
      for (int c = 0; c < kLanes; c++) row[c] *= inverse[c];
      for (int k = 0; k < count; k++) {
#pragma omp simd
        for (int c = 0; c < kLanes; c++) {
          const double term = row[c] + kRound - kRound;
          const int32_t value = static_cast<int32_t>(term);
          row[c] = (row[c] - term) * kTermRatio;
          start[k][c] -= Products::kOffset * value;
          words[k][c] |= (value & kMask) << (kBits * i);
        }
      }
    }
    std::memcpy(to + word * count * kLanes, words, count * kLanes * sizeof(int32_t));
  }
  std::memcpy(panel + 2 * kLanes, start, count * kLanes * sizeof(int32_t));
}

// Inputs: w [F, C], bias [C], the features' scale and offset [F], and [groups, terms]. The C / groups columns of each group start at a new panel.
// Output: the panels, as the bits of floats.
void Split(Call& call) {
  const auto size = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t features = size[0], columns = size[1];
  call.Expect(1, {columns});
  for (int i = 2; i <= 3; i++) call.Expect(i, {features});
  const int32_t* groups_and_terms = call.Sizes(4, 2);
  const int64_t groups = groups_and_terms[0];
  Call::Require(columns % groups == 0, std::to_string(columns) + " columns do not split into " + std::to_string(groups) + " groups");
  const PanelShape shape = ShapeOfPanels(features, groups_and_terms[1]);
  const float* w = call.Input<float>(0);
  const float* bias = call.Input<float>(1);
  const float* scale = call.Input<float>(2);
  const float* offset = call.Input<float>(3);
  const int64_t width = columns / groups, panels_per_group = RoundUp(width, kLanes) / kLanes;
  float* panels = call.Output(0, {groups * panels_per_group * shape.floats()});
  ParallelFor(groups * panels_per_group, [&](int64_t begin, int64_t end, int) {
    Floats rows(features * kLanes);
    for (int64_t p = begin; p < end; p++) {
      const int64_t within = p % panels_per_group * kLanes, column = p / panels_per_group * width + within;
      const int64_t count = std::min<int64_t>(kLanes, width - within);
      if (count < kLanes) std::fill(rows.begin(), rows.end(), 0.0f);
      for (int64_t f = 0; f < features; f++) std::memcpy(rows.data() + f * kLanes, w + f * columns + column, count * sizeof(float));
      const Columns of_panel{rows, features, bias + column, scale, offset, count};
      float* panel = panels + p * shape.floats();
      if (shape.is_float()) {
        WriteFloatPanel(of_panel, panel);
      } else if (shape.is_pairs()) {
        WriteIntegerPanel<PairProducts>(of_panel, shape, panel);
      } else {
        WriteIntegerPanel<ByteProducts>(of_panel, shape, panel);
      }
    }
  });
}

}  // namespace

std::string RegisterSplit() {
  return Register<Split>("NextvladSplit", {"w: float", "bias: float", "scale: float", "offset: float", "groups_and_terms: int32"}, {"panels: float"});
}

}  // namespace nextvlad
