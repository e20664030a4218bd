// Products of two matrices of floats, each optionally transposed.
#include "float_products.h"

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

struct Sizes {
  int64_t rows, columns, terms;
};

// Maximum rows and columns of y that one thread computes at a time: with kProductTerms terms, the panels of both factors fit the L2 cache.
constexpr int64_t kBlockRows = 192, kBlockColumns = 512;
constexpr int64_t kMinBlockRows = 48, kMinBlockColumns = 64;
static_assert(kBlockRows % kProductRows == 0 && kBlockColumns % kProductColumns == 0);

struct Block {
  int64_t rows, columns;
};

constexpr int64_t CountPieces(int64_t count, int64_t size) { return std::max<int64_t>(1, (count + size - 1) / size); }

// Blocks of equal size: either as many for each thread, or so many that a slower thread computes fewer. Not always many: each copies its part of both factors.
Block BlockOf(const Sizes& s, int64_t threads) {
  int64_t down = CountPieces(s.rows, kBlockRows), across = CountPieces(s.columns, kBlockColumns);
  const auto is_divided = [&] { return down * across % threads == 0 || down * across >= 4 * threads; };
  while (!is_divided() && s.columns > across * kMinBlockColumns) across *= 2;
  while (!is_divided() && s.rows > down * kMinBlockRows) down *= 2;
  return {RoundUp(CountPieces(s.rows, down), kProductRows), RoundUp(CountPieces(s.columns, across), kProductColumns)};
}

// y = a b, for a block of y.
void Multiply(const Matrix& a, const Matrix& b, const Sizes& s, float* y, int64_t y_step) {
  thread_local Floats left(PanelFloats<kProductRows>(kProductTerms, kBlockRows)), right(PanelFloats<kProductColumns>(kProductTerms, kBlockColumns));
  ForEachTerms(s.terms, [&](int64_t first, int64_t terms) {
    CopyToPanels<kProductColumns>(b.From(first, 0), terms, s.columns, right.data());
    MultiplyPanels(a.From(0, first), right.data(), s.rows, s.columns, terms, first > 0, left.data(), y, y_step);
  });
}

// Inputs: a, b, and whether each is transposed, 0 or 1, []. Output: y = a b [rows, columns]. A value of y does not depend on the number of threads.
void Product(Call& call) {
  for (int i = 2; i <= 3; i++) call.ExpectCount(i, 1);
  const bool transpose_a = *call.Input<float>(2) != 0, transpose_b = *call.Input<float>(3) != 0;
  const auto shape_of_a = call.Expect(0, {Call::kAny, Call::kAny}), shape_of_b = call.Expect(1, {Call::kAny, Call::kAny});
  Matrix a{call.Input<float>(0), shape_of_a[1], 1}, b{call.Input<float>(1), shape_of_b[1], 1};
  if (transpose_a) a = a.Transposed();
  if (transpose_b) b = b.Transposed();
  const Sizes s{shape_of_a[transpose_a ? 1 : 0], shape_of_b[transpose_b ? 0 : 1], shape_of_a[transpose_a ? 0 : 1]};
  const int64_t terms_of_b = shape_of_b[transpose_b ? 1 : 0];
  Call::Require(terms_of_b == s.terms, "the factors have " + std::to_string(s.terms) + " columns and " + std::to_string(terms_of_b) + " rows");
  float* y = call.Output(0, {s.rows, s.columns});
  if (s.terms == 0) std::fill(y, y + s.rows * s.columns, 0.0f);
  const Block block = BlockOf(s, Pool::Shared().threads());
  const int64_t across = CountPieces(s.columns, block.columns);
  ForEachItem(CountPieces(s.rows, block.rows) * across, [&](const auto& next) {
    for (int64_t item; next(&item);) {
      const int64_t row = item / across * block.rows, column = item % across * block.columns;
      const Sizes part{std::min(block.rows, s.rows - row), std::min(block.columns, s.columns - column), s.terms};
      Multiply(a.From(row, 0), b.From(0, column), part, y + row * s.columns + column, s.columns);
    }
  });
}

}  // namespace

std::string RegisterFloatProducts() {
  return Register<Product>("NextvladProduct", {"a: float", "b: float", "transpose_a: float", "transpose_b: float"}, {"y: float"});
}

}  // namespace nextvlad
