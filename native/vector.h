// Sixteen floats at a time: one register with AVX-512, two with AVX2.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace nextvlad {

constexpr int kLanes = 16;
typedef float Vector __attribute__((vector_size(64), aligned(4)));

inline Vector Load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
inline void Store(float* to, Vector v) { std::memcpy(to, &v, sizeof(v)); }

// Allocates on the boundary of a cache line: a register's load that straddles two lines takes twice as long.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, std::align_val_t(64)); }
  template <class U>
  bool operator==(const LineAllocator<U>&) const {
    return true;
  }
};
using Floats = std::vector<float, LineAllocator<float>>;

inline int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace nextvlad
