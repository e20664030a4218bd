#include <cstring>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Input: values of any shape. Output: a bit-exact copy in its own memory; arithmetic would flush denormals to zero.
void Copy(Call& call) {
  const float* from = call.Input<float>(0);
  float* to = call.Output(0, call.Shape(0));
  ParallelFor(call.Count(0), [=](int64_t begin, int64_t end, int) { std::memcpy(to + begin, from + begin, (end - begin) * sizeof(float)); });
}

}  // namespace

std::string RegisterCopy() { return Register<Copy>("NextvladCopy", {"values: float"}, {"copy: float"}); }

}  // namespace nextvlad
