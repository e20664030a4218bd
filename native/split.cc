// Converts weights to the panels of panels.h.
#include <cmath>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "panels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// 16 columns of weights, or fewer, with what converts features to floats. The rows of w are `stride` apart.
struct Columns {
  const float* w;
  int64_t features, stride, count;
  const float *bias, *scale, *offset;

  // The weight of a centered byte.
  double weight(int64_t feature, int64_t column) const { return static_cast<double>(w[feature * stride + column]) * scale[feature]; }

  // Each column's product with features of 128, plus the bias; zero for missing columns.
  void WriteBase(float* to) const {
    double base[kLanes] = {};
    for (int64_t f = 0; f < features; f++) {
      const double constant = static_cast<double>(kCenter) * scale[f] + offset[f];
      for (int64_t c = 0; c < count; c++) base[c] += w[f * stride + c] * constant;
    }
    for (int c = 0; c < kLanes; c++) to[c] = c < count ? base[c] + bias[c] : 0;
  }
};

void WriteFloatPanel(const Columns& columns, float* panel) {
  columns.WriteBase(panel);
  float* weights = panel + kLanes;
  for (int64_t f = 0; f < columns.features; f++) {
    for (int64_t c = 0; c < kLanes; c++) weights[f * kLanes + c] = c < columns.count ? columns.weight(f, c) : 0;
  }
}

// Splits weights into integers. Missing columns, and features of the last word, are zero.
void WriteIntegerPanel(const Columns& columns, const PanelShape& shape, float* panel) {
  double largest[kLanes] = {}, inverse[kLanes];
  for (int64_t f = 0; f < columns.features; f++) {
    for (int64_t c = 0; c < columns.count; c++) largest[c] = std::max(largest[c], std::abs(columns.weight(f, c)));
  }
  for (int c = 0; c < kLanes; c++) {
    // The step is rounded to float first, so that the terms compensate for its rounding.
    panel[c] = std::nextafter(static_cast<float>(largest[c] / Integers::MaxWeight(shape.terms)), INFINITY);
    inverse[c] = largest[c] > 0 ? 1 / static_cast<double>(panel[c]) : 0;
  }
  columns.WriteBase(panel + kLanes);
  const int count = Integers::Terms(shape.terms);
  int32_t start[kMaxTerms][kLanes] = {};
  Integers::Weight* terms = reinterpret_cast<Integers::Weight*>(panel + (2 + count) * kLanes);
  std::memset(terms, 0, shape.words() * count * kLanes * sizeof(int32_t));
  for (int64_t f = 0; f < columns.features; f++) {
    for (int64_t c = 0; c < columns.count; c++) {
      double rest = columns.weight(f, c) * inverse[c];
      for (int i = 0; i < count; i++) {
        const double term = std::nearbyint(rest);
        rest = (rest - term) * kTermRatio;
        terms[((f / kPerWord * count + i) * kLanes + c) * kPerWord + f % kPerWord] = static_cast<Integers::Weight>(term);
        start[i][c] -= Integers::kOffset * static_cast<int32_t>(term);
      }
    }
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
    for (int64_t p = begin; p < end; p++) {
      const int64_t within = p % panels_per_group * kLanes, column = p / panels_per_group * width + within;
      const Columns of_panel{w + column, features, columns, std::min<int64_t>(kLanes, width - within), bias + column, scale, offset};
      float* panel = panels + p * shape.floats();
      if (shape.is_float()) {
        WriteFloatPanel(of_panel, panel);
      } else {
        WriteIntegerPanel(of_panel, shape, panel);
      }
    }
  });
}

}  // namespace

std::string RegisterSplit() {
  return Register<Split>("NextvladSplit", {"w: float", "bias: float", "scale: float", "offset: float", "groups_and_terms: int32"}, {"panels: float"});
}

}  // namespace nextvlad
