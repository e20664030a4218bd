// Adam's update of one value.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace nextvlad {

// As they come from TypeScript, five floats: lr sqrt(1 - b2^t) / (1 - b1^t), 1 - b1, 1 - b2, epsilon, L2 decay.
struct AdamCoefficients {
  float step, one_minus_beta1, one_minus_beta2, epsilon, decay;
};
constexpr int kAdamCoefficients = sizeof(AdamCoefficients) / sizeof(float);

inline AdamCoefficients ReadCoefficients(const void* from) {
  AdamCoefficients c;
  std::memcpy(&c, from, sizeof(c));
  return c;
}

// TensorFlow's form of the update (core/kernels/training_ops.cc).
inline void UpdateByAdam(float gradient, const AdamCoefficients& c, float* w, float* m, float* v) {
  gradient += c.decay * *w;
  *m += (gradient - *m) * c.one_minus_beta1;
  *v += (gradient * gradient - *v) * c.one_minus_beta2;
  *w -= c.step * *m / (std::sqrt(*v) + c.epsilon);
}

}  // namespace nextvlad
