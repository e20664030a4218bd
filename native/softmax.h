// The exponential functions of soft assignment, of gates and of the loss.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace nextvlad {

// e^x for x <= 0, within 2 ulp: 2^n times a polynomial of the remainder (Cody and Waite's range reduction, Taylor coefficients of e^r). Branch-free, so that
// the compiler vectorizes it.
inline float Exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded value in the low bits
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  int32_t bits, power;
  std::memcpy(&bits, &p, 4);
  std::memcpy(&power, &shifted, 4);
  bits += (power - 0x4b400000) << 23;
  std::memcpy(&p, &bits, 4);
  return p;
}

// 1 / (1 + e^-x), branch-free, within 4 ulp.
inline float Sigmoid(float x) {
  const float e = Exp(-std::fabs(x));
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

// log(1 + e^x), branch-free, within 4 ulp. The logarithm is 2 atanh(s) with s = e / (2 + e) <= 1/3, whose series ends below the precision of a float.
inline float Softplus(float x) {
  const float e = Exp(-std::fabs(x));
  const float s = e / (2.0f + e), square = s * s;
  float p = 1.0f / 15;
  p = p * square + 1.0f / 13;
  p = p * square + 1.0f / 11;
  p = p * square + 1.0f / 9;
  p = p * square + 1.0f / 7;
  p = p * square + 1.0f / 5;
  p = p * square + 1.0f / 3;
  return (x < 0 ? 0.0f : x) + 2 * (s + s * square * p);
}

// Replaces logits by softmax(logits) * attention, and adds the result to `a_sum`.
inline void AssignClusters(float* a, int64_t clusters, float attention, float* a_sum) {
  float max_logit = -INFINITY;
#pragma omp simd reduction(max : max_logit)
  for (int64_t k = 0; k < clusters; k++) max_logit = a[k] > max_logit ? a[k] : max_logit;
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t k = 0; k < clusters; k++) {
    a[k] = Exp(a[k] - max_logit);
    total += a[k];
  }
  const float factor = attention / total;
#pragma omp simd
  for (int64_t k = 0; k < clusters; k++) {
    a[k] *= factor;
    a_sum[k] += a[k];
  }
}

}  // namespace nextvlad
