// Dropout whose random numbers are TensorFlow's (StatelessRandomUniform), bit for bit. They are not stored: the backward pass generates them again, which takes
// less time than TensorFlow's four ops take to generate and store them.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

namespace nextvlad {
namespace {

constexpr int kWords = 4;  // random numbers per counter

// A word of as many counters as a register holds, in 64 bits each, of which the upper half means nothing. Processors multiply the 32-bit words of every other lane
// only: with words of 32 bits, half of the instructions moved lanes.
typedef uint64_t Words __attribute__((vector_size(kSimdLanes * sizeof(float))));
constexpr int kCounters = kSimdLanes / 2;

// The product of the lower halves.
inline uint64_t MultiplyLow(uint64_t a, uint64_t b) { return (a & UINT32_MAX) * (b & UINT32_MAX); }
inline Words MultiplyLow(Words a, uint64_t b) {
  const Words factor = Words{} + b;
#if defined(__AVX512F__)
  return (Words)_mm512_mul_epu32((__m512i)a, (__m512i)factor);
#elif defined(__AVX2__)
  return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)factor);
#else
  return (Words)_mm_mul_epu32((__m128i)a, (__m128i)factor);
#endif
}

// Philox 4x32 with 10 rounds: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011). The words are the lower halves of `words`.
template <class W>
[[gnu::always_inline]] inline void Philox(uint32_t key0, uint32_t key1, W (&words)[kWords]) {
  W c0 = words[0], c1 = words[1], c2 = words[2], c3 = words[3];
#pragma GCC unroll 10
  for (uint32_t round = 0; round < 10; round++) {
    const W first = MultiplyLow(c0, 0xD2511F53), second = MultiplyLow(c2, 0xCD9E8D57);
    c0 = (second >> 32) ^ c1 ^ uint64_t{key0 + round * 0x9E3779B9u};
    c1 = second;
    c2 = (first >> 32) ^ c3 ^ uint64_t{key1 + round * 0xBB67AE85u};
    c3 = first;
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

// Writes the random numbers of the kCounters counters from `low` on, one counter's after the other's. kCounters divides `low`, so that none carries to `middle`.
[[gnu::always_inline]] inline void Generate(uint32_t key0, uint32_t key1, uint64_t low, uint64_t middle, uint64_t high0, uint64_t high1, uint32_t* to) {
  Words words[kWords] = {Words{} + low, Words{} + middle, Words{} + high0, Words{} + high1}, first_lanes, second_lanes;
  for (int lane = 0; lane < kCounters; lane++) {
    words[0][lane] += lane;
    first_lanes[lane] = lane / 2 + lane % 2 * kCounters;
    second_lanes[lane] = first_lanes[lane] + kCounters / 2;
  }
  Philox(key0, key1, words);
  const Words first = (words[0] & UINT32_MAX) | words[1] << 32, second = (words[2] & UINT32_MAX) | words[3] << 32;
  const Words low_half = __builtin_shuffle(first, second, first_lanes), high_half = __builtin_shuffle(first, second, second_lanes);
  std::memcpy(to, &low_half, sizeof(Words));
  std::memcpy(to + kSimdLanes, &high_half, sizeof(Words));
}

// A float from [0, 1): 23 random bits.
inline float ToUniform(uint32_t word) {
  const uint32_t bits = 0x3f800000u | (word & 0x7fffffu);
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value - 1.0f;
}

// Inputs: values of any shape, a seed [2], and the rate []. Output: each value times 1 if its random number is at least the rate, else times 0.
void Dropout(Call& call) {
  const float* x = call.Input<float>(0);
  const int64_t count = call.Count(0);
  call.Expect(1, {2});
  call.ExpectCount(2, 1);
  const int32_t* seed = call.Input<int32_t>(1);
  const float rate = *call.Input<float>(2);
  float* y = call.Output(0, call.Shape(0));
  // TensorFlow hashes the seed to a key and a start of the counter (core/kernels/stateless_random_ops.cc, GenerateKey).
  uint64_t start[kWords];
  for (int i = 0; i < 2; i++) {
    start[2 * i] = static_cast<uint64_t>(static_cast<int64_t>(seed[i]));
    start[2 * i + 1] = start[2 * i] >> 32;
  }
  Philox(0x3ec8f720, 0x02461e29, start);
  const uint32_t key0 = static_cast<uint32_t>(start[0]), key1 = static_cast<uint32_t>(start[1]);
  const uint64_t high0 = start[2], high1 = start[3];

  constexpr int64_t kBlock = kLanes * kWords;
  ParallelFor((count + kBlock - 1) / kBlock, [=](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; block++) {
      alignas(64) uint32_t random[kBlock];
      const uint64_t counter = static_cast<uint64_t>(block) * kLanes;
#pragma GCC unroll 8
      for (int i = 0; i < kLanes; i += kCounters) Generate(key0, key1, counter + i, counter >> 32, high0, high1, random + i * kWords);
      const int64_t first = block * kBlock;
      if (count - first >= kBlock) {
#pragma omp simd
        for (int i = 0; i < kBlock; i++) y[first + i] = x[first + i] * (ToUniform(random[i]) >= rate ? 1.0f : 0.0f);
      } else {
        for (int64_t i = first; i < count; i++) y[i] = x[i] * (ToUniform(random[i - first]) >= rate ? 1.0f : 0.0f);
      }
    }
  });
}

}  // namespace

std::string RegisterDropout() { return Register<Dropout>("NextvladDropout", {"x: float", "seed: int32", "rate: float"}, {"y: float"}); }

}  // namespace nextvlad
