// In-place updates: an input is a variable's own memory.
#include "adam.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Inputs: w, m and v, updated in place; the gradient; and the bits of the coefficients (adam.h). No output.
void Adam(Call& call) {
  float *w = call.Input<float>(0), *m = call.Input<float>(1), *v = call.Input<float>(2);
  const float* gradient = call.Input<float>(3);
  const int64_t count = call.Count(0);
  for (int i = 1; i <= 3; i++) call.ExpectCount(i, count);
  call.Expect(4, {kAdamCoefficients});
  const AdamCoefficients c = ReadCoefficients(call.Input<int32_t>(4));
  ForValues(count, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) UpdateByAdam(gradient[i], c, w[i], m[i], v[i]);
  });
}

// Inputs: a moving average, updated in place; the new value; and the momentum []. No output. average = momentum average + (1 - momentum) value.
void Blend(Call& call) {
  const int64_t count = call.Count(0);
  call.ExpectCount(1, count);
  call.ExpectCount(2, 1);
  float* average = call.Input<float>(0);
  const float* value = call.Input<float>(1);
  const float momentum = *call.Input<float>(2);
  ForValues(count, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) average[i] = momentum * average[i] + (1 - momentum) * value[i];
  });
}

}  // namespace

std::string RegisterUpdates() {
  std::string problem = Register<Adam>("NextvladAdam", {"w: float", "m: float", "v: float", "gradient: float", "coefficients: int32"}, {});
  if (problem.empty()) problem = Register<Blend>("NextvladBlend", {"average: float", "value: float", "momentum: float"}, {});
  return problem;
}

}  // namespace nextvlad
