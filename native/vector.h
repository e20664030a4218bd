// Vectors of floats.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace nextvlad {

// Sixteen floats on every processor, the width of the panels in panels.h: one register with AVX-512, two with AVX2, four with SSE.
constexpr int kLanes = 16;
typedef float Vector __attribute__((vector_size(64), aligned(4)));

// One register. For tiles of sums: g++ 12 spills a vector of two registers to memory, so that with AVX2 the inner loop of a product ran at 5 GFLOP/s instead
// of 50.
#if defined(__AVX512F__)
constexpr int kSimdLanes = 16;
#elif defined(__AVX__)
constexpr int kSimdLanes = 8;
#else
constexpr int kSimdLanes = 4;
#endif
typedef float Simd __attribute__((vector_size(kSimdLanes * sizeof(float)), aligned(4)));
// A lane number for each lane, as __builtin_shuffle takes them.
typedef int32_t SimdLaneNumbers __attribute__((vector_size(kSimdLanes * sizeof(int32_t))));
#if defined(__AVX512F__)
constexpr SimdLaneNumbers kLaneNumbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(__AVX__)
constexpr SimdLaneNumbers kLaneNumbers = {0, 1, 2, 3, 4, 5, 6, 7};
#else
constexpr SimdLaneNumbers kLaneNumbers = {0, 1, 2, 3};
#endif

template <class V>
inline V LoadAs(const float* from) {
  V v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
template <class V>
inline void Store(float* to, V v) {
  std::memcpy(to, &v, sizeof(v));
}
inline Vector Load(const float* from) { return LoadAs<Vector>(from); }
inline Simd LoadSimd(const float* from) { return LoadAs<Simd>(from); }

// The sum of a register's lanes, in pairs.
inline float SumOfLanes(Simd v) {
#pragma GCC unroll 4
  for (int step = kSimdLanes / 2; step > 0; step /= 2) v += __builtin_shuffle(v, kLaneNumbers ^ step);
  return v[0];
}

// Aligns memory to cache lines: loading a register that straddles two lines takes twice as long.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, std::align_val_t(64)); }
  // A value without an initial one is not set: clearing the buffers of a training step on short clips took 1 % of its time.
  template <class U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class First, class... Rest>
  void construct(U* at, First&& first, Rest&&... rest) {
    ::new (static_cast<void*>(at)) U(std::forward<First>(first), std::forward<Rest>(rest)...);
  }
  template <class U>
  bool operator==(const LineAllocator<U>&) const {
    return true;
  }
};
using Floats = std::vector<float, LineAllocator<float>>;

// Prefetches a part of a panel's cache lines to the L2 cache: the share of `count` of `rows` rows from `row` on. Without it, each panel's first tile waits for
// memory.
inline void PrefetchShare(const float* panel, int64_t lines, int64_t row, int64_t rows, int64_t count) {
  for (int64_t line = lines * row / rows; line < lines * (row + count) / rows; line++) __builtin_prefetch(panel + line * kLanes, 0, 2);
}

constexpr int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace nextvlad
