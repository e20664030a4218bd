// In-place updates.
#include "../adam.h"

using namespace nextvlad;

extern "C" {

// One step of Adam. A thread updates four values at a time.
__global__ void Adam(float* w, float* m, float* v, const float* gradient, AdamCoefficients c, long long count) {
  const long long stride = 4LL * gridDim.x * blockDim.x;
  for (long long at = 4 * (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x); at < count; at += stride) {
    if (at + 4 <= count) {
      float4 w4 = *reinterpret_cast<float4*>(w + at), m4 = *reinterpret_cast<float4*>(m + at), v4 = *reinterpret_cast<float4*>(v + at);
      const float4 g4 = *reinterpret_cast<const float4*>(gradient + at);
      UpdateByAdam(g4.x, c, w4.x, m4.x, v4.x);
      UpdateByAdam(g4.y, c, w4.y, m4.y, v4.y);
      UpdateByAdam(g4.z, c, w4.z, m4.z, v4.z);
      UpdateByAdam(g4.w, c, w4.w, m4.w, v4.w);
      *reinterpret_cast<float4*>(w + at) = w4;
      *reinterpret_cast<float4*>(m + at) = m4;
      *reinterpret_cast<float4*>(v + at) = v4;
    } else {
      for (long long i = at; i < count; i++) UpdateByAdam(gradient[i], c, w[i], m[i], v[i]);
    }
  }
}

// average = momentum average + (1 - momentum) value, in place.
__global__ void Blend(float* average, const float* value, const float* momentum, long long count) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    average[i] = *momentum * average[i] + (1 - *momentum) * value[i];
  }
}

}  // extern "C"
