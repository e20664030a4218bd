// The product of a few rows with a large matrix, bound by reading the matrix once: TensorFlow's takes 46 ms for 32 rows with hidden1's 302 MB,
// which the memory delivers in 15.
#include <cstring>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

namespace nextvlad {
namespace {

// Sums of a tile that stay in registers: 16 of AVX-512's 32, 12 of AVX2's 16.
constexpr bool kManyRegisters = kSimdLanes == 16;
constexpr int kVectors = kManyRegisters ? 4 : 2;
constexpr int kTile = kSimdLanes * kVectors;
constexpr int kExamples = kManyRegisters ? 4 : 6;
constexpr int kStreamed = 2;   // examples up to which the rows of w are best taken one after another
constexpr int kBlock = 128;    // rows of w whose part of a tile fits the first cache

// y[b, tile] += x[b, rows] w[rows, tile] for kExamples examples, whose sums stay in registers. x is packed, [rows][kExamples], and w too,
// [rows][kTile]: in their matrices, whose rows lie a multiple of 4 KiB apart, all values would fall on the same few lines of the first cache.
inline void AddTile(const float* x, const float* w, int64_t rows, int64_t examples, int64_t out, float* y) {
  Simd sums[kExamples][kVectors] = {};
  for (int64_t r = 0; r < rows; r++) {
    Simd row[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) row[j] = LoadSimd(w + r * kTile + j * kSimdLanes);
#pragma GCC unroll 8
    for (int e = 0; e < kExamples; e++) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; j++) sums[e][j] += x[r * kExamples + e] * row[j];
    }
  }
#pragma GCC unroll 8
  for (int e = 0; e < kExamples; e++) {
    if (e >= examples) return;
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; j++) Store(y + e * out + j * kSimdLanes, LoadSimd(y + e * out + j * kSimdLanes) + sums[e][j]);
  }
}

// Row by row: for very few examples, and for the columns that fill no tile.
void AddPlainly(const float* x, int64_t in, const float* w, int64_t out, int64_t examples, int64_t rows, int64_t from, float* y) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const float *w0 = w + r * out, *w1 = w0 + out, *w2 = w1 + out, *w3 = w2 + out;
    for (int64_t b = 0; b < examples; b++) {
      const float* v = x + b * in + r;
      const float v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];
      float* sums = y + b * out;
#pragma omp simd
      for (int64_t c = from; c < out; c++) sums[c] += v0 * w0[c] + v1 * w1[c] + v2 * w2[c] + v3 * w3[c];
    }
  }
  for (; r < rows; r++) {
    for (int64_t b = 0; b < examples; b++) {
      const float value = x[b * in + r];
#pragma omp simd
      for (int64_t c = from; c < out; c++) y[b * out + c] += value * w[r * out + c];
    }
  }
}

// Inputs: x [B, in], w [in, out]. Output: x w [B, out].
void Dense(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t examples = shape[0], in = shape[1], out = call.Expect(1, {in, Call::kAny})[1];
  const float* x = call.Input<float>(0);
  const float* w = call.Input<float>(1);
  float* y = call.Output(0, {examples, out});
  const int threads = Pool::Shared().threads();
  std::vector<std::vector<float>> parts(threads);
  const int64_t tiled = out / kTile * kTile;
  ParallelFor(in, [&](int64_t begin, int64_t end, int piece) {
    std::vector<float>& part = parts[piece];
    part.assign(examples * out, 0.0f);
    if (examples <= kStreamed) return AddPlainly(x + begin, in, w + begin * out, out, examples, end - begin, 0, part.data());
    const int64_t groups = (examples + kExamples - 1) / kExamples;
    std::vector<float> packed_x(groups * kExamples * kBlock), packed_w(kBlock * kTile);
    for (int64_t row = begin; row < end; row += kBlock) {
      const int64_t rows = std::min<int64_t>(kBlock, end - row);
      for (int64_t b = 0; b < examples; b++) {
        float* group = packed_x.data() + b / kExamples * kExamples * kBlock + b % kExamples;
        for (int64_t r = 0; r < rows; r++) group[r * kExamples] = x[b * in + row + r];
      }
      for (int64_t column = 0; column < tiled; column += kTile) {
        for (int64_t r = 0; r < rows; r++) {
          const float* from = w + (row + r) * out + column;
          std::memcpy(packed_w.data() + r * kTile, from, kTile * sizeof(float));
          // The next block's rows are on their way while this one's are multiplied.
          if (row + kBlock + r < end) {
            for (int j = 0; j < kVectors; j++) __builtin_prefetch(from + kBlock * out + j * kSimdLanes, 0, 2);
          }
        }
        for (int64_t group = 0; group < groups; group++) {
          const int64_t b = group * kExamples;
          AddTile(packed_x.data() + b * kBlock, packed_w.data(), rows, std::min<int64_t>(kExamples, examples - b), out, part.data() + b * out + column);
        }
      }
      AddPlainly(x + row, in, w + row * out, out, examples, rows, tiled, part.data());
    }
  });
  ParallelFor(examples * out, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      float sum = 0;
      for (const std::vector<float>& part : parts) sum += part[i];
      y[i] = sum;
    }
  });
}

}  // namespace

std::string RegisterDense() { return Register<Dense>("NextvladDense", {"x: float", "w: float"}, {"y: float"}); }

}  // namespace nextvlad
