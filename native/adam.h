// Adam's update of one value, for the CPU and, compiled by NVRTC, for a GPU.
#pragma once

#ifdef __CUDACC__
#define NEXTVLAD_DEVICE __device__
#else
#include <cmath>
#include <cstdint>
#include <cstring>
#define NEXTVLAD_DEVICE
#endif

namespace nextvlad {

// As src/runtime/variables.ts encodes them, five floats: lr sqrt(1 - beta2^t) / (1 - beta1^t), 1 - beta1, 1 - beta2, epsilon, L2 decay.
struct AdamCoefficients {
  float step, one_minus_beta1, one_minus_beta2, epsilon, decay;
};

// TensorFlow's form of the update (core/kernels/training_ops.cc).
NEXTVLAD_DEVICE inline void UpdateByAdam(float gradient, const AdamCoefficients& c, float& w, float& m, float& v) {
  gradient += c.decay * w;
  m += (gradient - m) * c.one_minus_beta1;
  v += (gradient * gradient - v) * c.one_minus_beta2;
  w -= c.step * m / (sqrtf(v) + c.epsilon);
}

#ifndef __CUDACC__
constexpr int kAdamCoefficients = sizeof(AdamCoefficients) / sizeof(float);

inline AdamCoefficients ReadCoefficients(const void* from) {
  AdamCoefficients c;
  std::memcpy(&c, from, sizeof(c));
  return c;
}
#endif

}  // namespace nextvlad
