// Dropout whose random numbers are TensorFlow's (StatelessRandomUniform), bit for bit. They are not stored: the backward pass generates them again, which takes
// less time than TensorFlow's four ops take to generate and store them.
#include <algorithm>
#include <cstring>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

namespace nextvlad {
namespace {

constexpr int kWords = 4;  // random numbers per counter

// Philox 4x32 with 10 rounds: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
[[gnu::always_inline]] inline void Philox(uint32_t key0, uint32_t key1, uint32_t (&words)[kWords]) {
  uint32_t c0 = words[0], c1 = words[1], c2 = words[2], c3 = words[3];
#pragma GCC unroll 10
  for (uint32_t round = 0; round < 10; round++) {
    const uint64_t first = uint64_t{0xD2511F53} * c0, second = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(second >> 32) ^ c1 ^ (key0 + round * 0x9E3779B9u);
    c1 = static_cast<uint32_t>(second);
    c2 = static_cast<uint32_t>(first >> 32) ^ c3 ^ (key1 + round * 0xBB67AE85u);
    c3 = static_cast<uint32_t>(first);
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
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
  uint32_t start[kWords];
  for (int i = 0; i < 2; i++) {
    const uint64_t word = static_cast<uint64_t>(static_cast<int64_t>(seed[i]));
    start[2 * i] = static_cast<uint32_t>(word);
    start[2 * i + 1] = static_cast<uint32_t>(word >> 32);
  }
  Philox(0x3ec8f720, 0x02461e29, start);
  const uint32_t key0 = start[0], key1 = start[1], high0 = start[2], high1 = start[3];

  constexpr int64_t kBlock = kLanes * kWords;
  ParallelFor((count + kBlock - 1) / kBlock, [=](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; block++) {
      alignas(64) float uniform[kBlock];
      const uint64_t counter = static_cast<uint64_t>(block) * kLanes;
      const uint32_t low = static_cast<uint32_t>(counter), middle = static_cast<uint32_t>(counter >> 32);  // kLanes divides 2^32: low + lane never overflows
#pragma omp simd
      for (int lane = 0; lane < kLanes; lane++) {
        uint32_t words[kWords] = {low + static_cast<uint32_t>(lane), middle, high0, high1};
        Philox(key0, key1, words);
        for (int i = 0; i < kWords; i++) uniform[lane * kWords + i] = ToUniform(words[i]);
      }
      const int64_t first = block * kBlock;
      if (count - first >= kBlock) {
#pragma omp simd
        for (int i = 0; i < kBlock; i++) y[first + i] = x[first + i] * (uniform[i] >= rate ? 1.0f : 0.0f);
      } else {
        for (int64_t i = first; i < count; i++) y[i] = x[i] * (uniform[i - first] >= rate ? 1.0f : 0.0f);
      }
    }
  });
}

}  // namespace

std::string RegisterDropout() { return Register<Dropout>("NextvladDropout", {"x: float", "seed: int32", "rate: float"}, {"y: float"}); }

}  // namespace nextvlad
