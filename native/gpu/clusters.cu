// Soft assignment, the descriptor and their gradients. K clusters in each of G groups are compile-time constants, so that a row's values stay in registers.
// The order of all sums is fixed.
#include "constants.h"

using namespace nextvlad::gpu;

constexpr int kPerLane = (K + kWarp - 1) / kWarp;

// NVRTC has no <cmath>.
__device__ float MinusInfinity() { return __int_as_float(0xff800000); }

__device__ float WarpSum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

__device__ float WarpMax(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

// The row of a group of a frame in tensors that are padded to `longest` frames per video.
__device__ long long PaddedRow(int video, int frame, int longest, int group) {
  return (static_cast<long long>(video) * longest + frame) * G + group;
}

extern "C" {

// a = softmax over the K clusters of (z - mean) factor + shift, times sigmoid(alpha): `assignment`, padded, with zeros after a video's frames; the sigmoid
// `attention` [frames, G], unless it is null; and `a_sum` [videos, G K], the sum of a over each video's frames.
// z is [frames, G K] and alpha [frames, G]; a null `mean` is zero. One block for each group of each video.
__global__ void __launch_bounds__(kWarp * kMaxWarps)
    Assign(const float* z, const float* alpha, const float* mean, const float* factor, const float* shift, const int* offsets, int longest, float* assignment,
           float* attention, float* a_sum) {
  extern __shared__ float shared_sums[];  // [warps, K]
  const int group = blockIdx.x, video = blockIdx.y, lane = threadIdx.x, warp = threadIdx.y;
  const int begin = offsets[video], frames = offsets[video + 1] - begin;
  float mu[kPerLane], gamma[kPerLane], beta[kPerLane], sums[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const int k = lane + kWarp * i, c = group * K + k;
    const bool is_valid = k < K;
    mu[i] = is_valid && mean != nullptr ? mean[c] : 0.0f;
    gamma[i] = is_valid ? factor[c] : 0.0f;
    beta[i] = is_valid ? shift[c] : 0.0f;
    sums[i] = 0;
  }
  for (int frame = warp; frame < longest; frame += blockDim.y) {
    float* to = assignment + PaddedRow(video, frame, longest, group) * K;
    if (frame >= frames) {
#pragma unroll
      for (int i = 0; i < kPerLane; i++) {
        if (lane + kWarp * i < K) to[lane + kWarp * i] = 0.0f;
      }
      continue;
    }
    const long long row = static_cast<long long>(begin + frame) * G + group;
    float a[kPerLane], max_logit = MinusInfinity(), exp_sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      a[i] = k < K ? (z[row * K + k] - mu[i]) * gamma[i] + beta[i] : MinusInfinity();
      max_logit = fmaxf(max_logit, a[i]);
    }
    max_logit = WarpMax(max_logit);
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      a[i] = expf(a[i] - max_logit);
      exp_sum += a[i];
    }
    const float sigma = 1.0f / (1.0f + expf(-alpha[row])), scale = sigma / WarpSum(exp_sum);
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      a[i] *= scale;
      sums[i] += a[i];
      if (k < K) to[k] = a[i];
    }
    if (attention != nullptr && lane == 0) attention[row] = sigma;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    if (lane + kWarp * i < K) shared_sums[warp * K + lane + kWarp * i] = sums[i];
  }
  __syncthreads();
  for (int k = warp * kWarp + lane; k < K; k += blockDim.y * kWarp) {
    float total = 0;
    for (int other = 0; other < blockDim.y; other++) total += shared_sums[other * K + k];
    a_sum[(static_cast<long long>(video) * G + group) * K + k] = total;
  }
}

// From the gradients of the assignment (padded) and of a_sum: `dy` [frames, G K], the gradient of the normalized logits; that of alpha; and the sums over each
// video's frames of dy and of dy times the normalized logits, parts [videos, 2, G K]. One block for each group of each video.
__global__ void __launch_bounds__(kWarp * kMaxWarps)
    AssignBackward(const float* dassignment, const float* da_sum, const float* assignment, const float* attention, const float* z, const float* mean,
                   const float* inverse, const int* offsets, int longest, float* dy, float* dalpha, float* parts) {
  extern __shared__ float shared_sums[];  // [2, warps, K]
  const int group = blockIdx.x, video = blockIdx.y, lane = threadIdx.x, warp = threadIdx.y;
  const int begin = offsets[video], frames = offsets[video + 1] - begin;
  float mu[kPerLane], inverse_std[kPerLane], da_sum_k[kPerLane], dbeta[kPerLane], dgamma[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const int k = lane + kWarp * i, c = group * K + k;
    const bool is_valid = k < K;
    mu[i] = is_valid ? mean[c] : 0.0f;
    inverse_std[i] = is_valid ? inverse[c] : 0.0f;
    da_sum_k[i] = is_valid ? da_sum[static_cast<long long>(video) * G * K + c] : 0.0f;
    dbeta[i] = dgamma[i] = 0;
  }
  for (int frame = warp; frame < frames; frame += blockDim.y) {
    const long long padded = PaddedRow(video, frame, longest, group);
    const long long row = static_cast<long long>(begin + frame) * G + group;
    float a[kPerLane], da[kPerLane], dot = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      a[i] = k < K ? assignment[padded * K + k] : 0.0f;
      da[i] = k < K ? dassignment[padded * K + k] + da_sum_k[i] : 0.0f;
      dot += a[i] * da[i];
    }
    dot = WarpSum(dot);
    const float sigma = attention[row], mean_da = sigma > 0 ? dot / sigma : 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      if (k >= K) continue;
      const float d = a[i] * (da[i] - mean_da);
      dy[row * K + k] = d;
      dbeta[i] += d;
      dgamma[i] += d * (z[row * K + k] - mu[i]) * inverse_std[i];
    }
    if (lane == 0) dalpha[row] = dot * (1 - sigma);
  }
  float* shared_dgamma = shared_sums + blockDim.y * K;
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const int k = lane + kWarp * i;
    if (k >= K) continue;
    shared_sums[warp * K + k] = dbeta[i];
    shared_dgamma[warp * K + k] = dgamma[i];
  }
  __syncthreads();
  for (int k = warp * kWarp + lane; k < K; k += blockDim.y * kWarp) {
    float dbeta_sum = 0, dgamma_sum = 0;
    for (int other = 0; other < blockDim.y; other++) {
      dbeta_sum += shared_sums[other * K + k];
      dgamma_sum += shared_dgamma[other * K + k];
    }
    const int c = group * K + k, columns = G * K;
    parts[2LL * video * columns + c] = dbeta_sum;
    parts[(2LL * video + 1) * columns + c] = dgamma_sum;
  }
}

// The descriptor v[p, k] = sums[p, k] - centers[k, p] (sum over g of a_sum[g, k]) + (sum over g of bias[g, p] a_sum[g, k]), where bias is the expansion's, and
// unit, in which each cluster's column is scaled to length 1; inverse is 1 / length. One block of [32, kDescriptorRows] threads for 32 clusters of a video.
// sums and unit are [videos, P, K], a_sum is [videos, G K], inverse is [videos, K].
__global__ void Describe(const float* sums, const float* a_sum, const float* bias, const float* centers, const float* epsilon, int group_size, float* unit,
                         float* inverse) {
  __shared__ float squares[kDescriptorRows][kWarp];
  const int video = blockIdx.y, k = blockIdx.x * kWarp + threadIdx.x, row = threadIdx.y;
  const long long base = static_cast<long long>(video) * group_size * K + k;
  float a_sum_g[G], total = 0, square_sum = 0;
  if (k < K) {
#pragma unroll
    for (int g = 0; g < G; g++) total += a_sum_g[g] = a_sum[(static_cast<long long>(video) * G + g) * K + k];
    for (int p = row; p < group_size; p += kDescriptorRows) {
      float v = sums[base + static_cast<long long>(p) * K] - centers[k * group_size + p] * total;
#pragma unroll
      for (int g = 0; g < G; g++) v += bias[g * group_size + p] * a_sum_g[g];
      unit[base + static_cast<long long>(p) * K] = v;
      square_sum += v * v;
    }
  }
  squares[row][threadIdx.x] = square_sum;
  __syncthreads();
  if (k >= K) return;
  square_sum = 0;
  for (int other = 0; other < kDescriptorRows; other++) square_sum += squares[other][threadIdx.x];
  const float inverse_norm = 1.0f / sqrtf(square_sum + *epsilon);
  // Each thread reads only values that it wrote itself.
  for (int p = row; p < group_size; p += kDescriptorRows) unit[base + static_cast<long long>(p) * K] *= inverse_norm;
  if (row == 0) inverse[static_cast<long long>(video) * K + k] = inverse_norm;
}

// The gradients of sums and a_sum, from that of unit. Blocks as for Describe.
__global__ void DescribeBackward(const float* dunit, const float* unit, const float* inverse, const float* bias, const float* centers, int group_size,
                                 float* dsums, float* da_sum) {
  __shared__ float parts[kDescriptorRows][kWarp];
  const int video = blockIdx.y, k = blockIdx.x * kWarp + threadIdx.x, row = threadIdx.y;
  const long long base = static_cast<long long>(video) * group_size * K + k;
  float dot = 0;  // of dunit and unit
  if (k < K) {
    for (int p = row; p < group_size; p += kDescriptorRows) {
      dot += dunit[base + static_cast<long long>(p) * K] * unit[base + static_cast<long long>(p) * K];
    }
  }
  parts[row][threadIdx.x] = dot;
  __syncthreads();
  dot = 0;
  for (int other = 0; other < kDescriptorRows; other++) dot += parts[other][threadIdx.x];
  float dot_bias[G] = {}, dot_center = 0;  // of dsums with bias[g] and with centers[k]
  if (k < K) {
    const float inverse_norm = inverse[static_cast<long long>(video) * K + k];
    for (int p = row; p < group_size; p += kDescriptorRows) {
      const long long at = base + static_cast<long long>(p) * K;
      const float d = (dunit[at] - unit[at] * dot) * inverse_norm;
      dsums[at] = d;
      dot_center += d * centers[k * group_size + p];
#pragma unroll
      for (int g = 0; g < G; g++) dot_bias[g] += d * bias[g * group_size + p];
    }
  }
#pragma unroll
  for (int g = 0; g < G; g++) {
    __syncthreads();
    parts[row][threadIdx.x] = dot_bias[g] - dot_center;
    __syncthreads();
    if (row > 0 || k >= K) continue;
    float sum = 0;
    for (int other = 0; other < kDescriptorRows; other++) sum += parts[other][threadIdx.x];
    da_sum[(static_cast<long long>(video) * G + g) * K + k] = sum;
  }
}

// The gradients of centers [K, P] and bias [G, P], from that of sums. One block for each p; a thread for each k.
__global__ void DescribeParameters(const float* dsums, const float* a_sum, int videos, int group_size, float* dcenters, float* dbias) {
  extern __shared__ float shared_sums[];  // [G, threads]
  const int p = blockIdx.x;
  float dbias_g[G] = {};
  for (int k = threadIdx.x; k < K; k += blockDim.x) {
    float dcenter = 0;
    for (int video = 0; video < videos; video++) {
      const float d = dsums[(static_cast<long long>(video) * group_size + p) * K + k];
      float total = 0;
#pragma unroll
      for (int g = 0; g < G; g++) {
        const float a = a_sum[(static_cast<long long>(video) * G + g) * K + k];
        total += a;
        dbias_g[g] += d * a;
      }
      dcenter -= d * total;
    }
    dcenters[k * group_size + p] = dcenter;
  }
#pragma unroll
  for (int g = 0; g < G; g++) shared_sums[g * blockDim.x + threadIdx.x] = dbias_g[g];
  __syncthreads();
  for (int g = threadIdx.x; g < G; g += blockDim.x) {
    float sum = 0;
    for (int other = 0; other < blockDim.x; other++) sum += shared_sums[g * blockDim.x + other];
    dbias[g * group_size + p] = sum;
  }
}

}  // extern "C"
