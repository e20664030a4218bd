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

// As src/runtime/variables.ts encodes them, six floats: lr sqrt(1 - beta2^t) / (1 - beta1^t), 1 - beta1, 1 - beta2, epsilon, L2 decay, decoupled decay.
struct AdamCoefficients {
  float step, one_minus_beta1, one_minus_beta2, epsilon, decay, decoupled_decay;
};

// TensorFlow's form of the update (core/kernels/training_ops.cc), and AdamW's decay of w (arXiv:1711.05101), which m and v do not see. Of w before the update,
// in one subtraction: with a decay of 0, the result is bit for bit that without it.
NEXTVLAD_DEVICE inline void UpdateByAdam(float gradient, const AdamCoefficients& c, float& w, float& m, float& v) {
  gradient += c.decay * w;
  m += (gradient - m) * c.one_minus_beta1;
  v += (gradient * gradient - v) * c.one_minus_beta2;
  w -= c.step * m / (sqrtf(v) + c.epsilon) + c.decoupled_decay * w;
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
