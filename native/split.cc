// Splits weights into the panels of byte_panels.h.
#include <cmath>
#include <vector>

#include "byte_panels.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Splits up to 16 columns of w, whose rows are `stride` apart, into one panel. Missing columns, and rows of the last quad, are zero.
void SplitPanel(const float* w, int64_t features, int64_t stride, int64_t columns, const float* bias, const float* scale, const float* offset,
                const PanelShape& shape, float* panel) {
  double largest[kLanes] = {}, base[kLanes] = {};
  for (int64_t f = 0; f < features; f++) {
    const double factor = scale[f], constant = kCenter * factor + offset[f];
    for (int64_t c = 0; c < columns; c++) {
      const double value = w[f * stride + c];
      largest[c] = std::max(largest[c], std::abs(value * factor));
      base[c] += value * constant;
    }
  }
  double inverse[kLanes];
  for (int c = 0; c < kLanes; c++) {
    // The step is rounded to float first, so that the terms compensate for its rounding.
    panel[c] = std::nextafter(static_cast<float>(largest[c] / 127), INFINITY);
    inverse[c] = largest[c] > 0 ? 1 / static_cast<double>(panel[c]) : 0;
    panel[kLanes + c] = c < columns ? base[c] + bias[c] : 0;
  }
  int32_t start[kMaxTerms][kLanes] = {};
  int8_t* terms = reinterpret_cast<int8_t*>(panel + (2 + shape.terms) * kLanes);
  std::memset(terms, 0, shape.quads * shape.terms * kLanes * 4);
  for (int64_t f = 0; f < features; f++) {
    const double factor = scale[f];
    for (int64_t c = 0; c < columns; c++) {
      double rest = w[f * stride + c] * factor * inverse[c];
      for (int i = 0; i < shape.terms; i++) {
        const double term = std::nearbyint(rest);
        rest = (rest - term) * kTermRatio;
        terms[((f / 4 * shape.terms + i) * kLanes + c) * 4 + f % 4] = static_cast<int8_t>(term);
        start[i][c] -= kCenter * static_cast<int32_t>(term);
      }
    }
  }
  std::memcpy(panel + 2 * kLanes, start, shape.terms * kLanes * sizeof(int32_t));
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
      SplitPanel(w + column, features, columns, std::min<int64_t>(kLanes, width - within), bias + column, scale, offset, shape, panels + p * shape.floats());
    }
  });
}

}  // namespace

std::string RegisterSplit() {
  return Register<Split>("NextvladSplit", {"w: float", "bias: float", "scale: float", "offset: float", "groups_and_terms: int32"}, {"panels: float"});
}

}  // namespace nextvlad
