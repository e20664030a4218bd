// Products with frozen weights, y = x w + shift. The weights are copied to panels once, so that a product takes no more than its arithmetic for any number of
// rows: TensorFlow copies them for each product, and computes products of few rows on one thread.
#include <cstring>

#include "kernel.h"
#include "kernels.h"
#include "panels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Rows and panels that a thread computes at a time: their products fit the L2 cache. Whole tiles on every processor.
constexpr int64_t kItemRows = 168, kItemPanels = 4;
static_assert(kItemRows % kFloatTileRows == 0);

int64_t FloatsOfPanel(int64_t terms) { return (1 + terms) * kLanes; }

// Inputs: w [terms, columns], shift [columns]. Output: panels of 16 columns, as panels.h has those of floats.
void Pack(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t terms = shape[0], columns = shape[1];
  call.Expect(1, {columns});
  const float *w = call.Input<float>(0), *shift = call.Input<float>(1);
  const int64_t count = RoundUp(columns, kLanes) / kLanes;
  float* panels = call.Output(0, {count * FloatsOfPanel(terms)});
  ParallelFor(count, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; p++) {
      const int64_t width = std::min<int64_t>(kLanes, columns - p * kLanes);
      float* to = panels + p * FloatsOfPanel(terms);
      if (width < kLanes) std::fill(to, to + FloatsOfPanel(terms), 0.0f);
      std::memcpy(to, shift + p * kLanes, width * sizeof(float));
      for (int64_t t = 0; t < terms; t++) std::memcpy(to + (1 + t) * kLanes, w + t * columns + p * kLanes, width * sizeof(float));
    }
  });
}

// Copies rows [begin, end) of x [rows, terms] to blocks; rows and terms that pad a block are zero.
void CopyToBlocks(const float* x, int64_t rows, int64_t terms, int64_t begin, int64_t end, int64_t padded_rows, float* blocks) {
  for (int64_t r = begin; r < end; r++) {
    for (int64_t t = 0; t < terms; t += kLanes) {
      float* to = blocks + t * padded_rows + r * kLanes;
      const int64_t count = r < rows ? std::min<int64_t>(kLanes, terms - t) : 0;
      if (count == kLanes) {
        Store(to, Load(x + r * terms + t));
      } else {
        std::fill(to, to + kLanes, 0.0f);
        if (count > 0) std::memcpy(to, x + r * terms + t, count * sizeof(float));
      }
    }
  }
}

// Inputs: x [rows, terms], panels of w, and [columns]. Output: x w + shift [rows, columns]. A value does not depend on the number of rows or threads.
void Multiply(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t rows = shape[0], terms = shape[1], columns = *call.Sizes(2, 1);
  const int64_t panel_count = RoundUp(columns, kLanes) / kLanes, panel_floats = FloatsOfPanel(terms);
  call.ExpectCount(1, panel_count * panel_floats);
  const float *x = call.Input<float>(0), *panels = call.Input<float>(1);
  float* y = call.Output(0, {rows, columns});
  const int64_t padded_rows = RoundUp(rows, kFloatTileRows);
  float* blocks = call.Temporary(RoundUp(terms, kLanes) * padded_rows);
  ParallelFor(padded_rows, [&](int64_t begin, int64_t end, int) { CopyToBlocks(x, rows, terms, begin, end, padded_rows, blocks); });

  const int64_t item_panels = std::clamp<int64_t>(panel_count / (4 * Pool::Shared().threads()), 1, kItemPanels);
  const int64_t across = (panel_count + item_panels - 1) / item_panels, down = (rows + kItemRows - 1) / kItemRows;
  ForEachItem(across * down, [&](const auto& next) {
    Floats products(item_panels * kItemRows * kLanes);  // [panels][rows][16]
    for (int64_t item; next(&item);) {
      const int64_t first_row = item / across * kItemRows, first_panel = item % across * item_panels;
      const int64_t count = std::min(kItemRows, rows - first_row), width = std::min(item_panels, panel_count - first_panel);
      const PanelOutput to{products.data(), kItemRows * kLanes, kLanes};
      MultiplyFloats<false>({blocks, padded_rows, terms}, first_row, count, panels + first_panel * panel_floats, width, to);
      for (int64_t r = 0; r < count; r++) {
        for (int64_t p = 0; p < width; p++) {
          const int64_t column = (first_panel + p) * kLanes;
          std::memcpy(y + (first_row + r) * columns + column, products.data() + p * to.panel_step + r * kLanes,
                      std::min<int64_t>(kLanes, columns - column) * sizeof(float));
        }
      }
    }
  });
}

}  // namespace

std::string RegisterFrozenDense() {
  const std::string problem = Register<Pack>("NextvladPackDense", {"w: float", "shift: float"}, {"panels: float"});
  return problem.empty() ? Register<Multiply>("NextvladFrozenDense", {"x: float", "panels: float", "columns: int32"}, {"y: float"}) : problem;
}

}  // namespace nextvlad
