// Batch norm over rows and its gradient. A block of a kernel that sums has 32 columns and some rows of threads; the order of the sums is fixed.
#include "constants.h"

using namespace nextvlad::gpu;

// The number of some values, their mean, and the sum of their squared differences from it (Chan, Golub and LeVeque 1979).
struct Moments {
  float count, mean, squares;
};

__device__ Moments Merge(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0) return a;
  const float delta = b.mean - a.mean, fraction = b.count / count;
  return {count, a.mean + delta * fraction, a.squares + b.squares + delta * delta * a.count * fraction};
}

extern "C" {

// The moments of each column over `chunk` rows of x [rows, columns]: parts [chunks, columns].
__global__ void PartialMoments(const float* x, int rows, int columns, int chunk, Moments* parts) {
  extern __shared__ Moments shared_moments[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
  Moments own = {0, 0, 0};
  if (column < columns) {
    // The sums are of differences to one of the values, so that a mean far from zero costs no precision.
    const float origin = x[static_cast<long long>(begin) * columns + column];
    float sum = 0, squares = 0;
    for (int row = begin + threadIdx.y; row < end; row += blockDim.y) {
      const float delta = x[static_cast<long long>(row) * columns + column] - origin;
      own.count += 1;
      sum += delta;
      squares += delta * delta;
    }
    if (own.count > 0) {
      own.mean = origin + sum / own.count;
      own.squares = fmaxf(0.0f, squares - sum * sum / own.count);
    }
  }
  shared_moments[threadIdx.y * kWarp + threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) own = Merge(own, shared_moments[other * kWarp + threadIdx.x]);
  parts[static_cast<long long>(blockIdx.y) * columns + column] = own;
}

// Mean, biased variance, inverse = 1 / sqrt(variance + epsilon) and factor = scale inverse of each column, from its parts.
__global__ void MergeMoments(const Moments* parts, int chunks, int columns, const float* scale, const float* epsilon, float* mean, float* variance,
                             float* inverse, float* factor) {
  extern __shared__ Moments shared_moments[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  Moments own = {0, 0, 0};
  if (column < columns) {
    for (int chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y) own = Merge(own, parts[static_cast<long long>(chunk) * columns + column]);
  }
  shared_moments[threadIdx.y * kWarp + threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) own = Merge(own, shared_moments[other * kWarp + threadIdx.x]);
  const float biased_variance = own.squares / own.count, inverse_std = 1.0f / sqrtf(biased_variance + *epsilon);
  mean[column] = own.mean;
  variance[column] = biased_variance;
  inverse[column] = inverse_std;
  factor[column] = scale[column] * inverse_std;
}

// y = (x - mean) factor + shift.
__global__ void Normalize(const float* x, const float* mean, const float* factor, const float* shift, long long count, int columns, float* y) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int c = i % columns;
    y[i] = (x[i] - mean[c]) * factor[c] + shift[c];
  }
}

// The sums of dy and of dy times the normalized x over `chunk` rows of each column: parts [chunks, 2, columns].
__global__ void PartialGradients(const float* dy, const float* x, const float* mean, const float* inverse, int rows, int columns, int chunk, float* parts) {
  extern __shared__ float shared_sums[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
  float dshift = 0, dscale = 0;
  if (column < columns) {
    const float mu = mean[column], inverse_std = inverse[column];
    for (int row = begin + threadIdx.y; row < end; row += blockDim.y) {
      const long long at = static_cast<long long>(row) * columns + column;
      dshift += dy[at];
      dscale += dy[at] * (x[at] - mu) * inverse_std;
    }
  }
  float* own = shared_sums + 2 * (threadIdx.y * kWarp + threadIdx.x);
  own[0] = dshift;
  own[1] = dscale;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) {
    dshift += shared_sums[2 * (other * kWarp + threadIdx.x)];
    dscale += shared_sums[2 * (other * kWarp + threadIdx.x) + 1];
  }
  parts[(2LL * blockIdx.y) * columns + column] = dshift;
  parts[(2LL * blockIdx.y + 1) * columns + column] = dscale;
}

// The gradients of scale and shift, from their parts [chunks, 2, columns].
__global__ void SumGradients(const float* parts, int chunks, int columns, float* dscale, float* dshift) {
  extern __shared__ float shared_sums[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  float shift_sum = 0, scale_sum = 0;
  if (column < columns) {
    for (int chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y) {
      shift_sum += parts[(2LL * chunk) * columns + column];
      scale_sum += parts[(2LL * chunk + 1) * columns + column];
    }
  }
  float* own = shared_sums + 2 * (threadIdx.y * kWarp + threadIdx.x);
  own[0] = shift_sum;
  own[1] = scale_sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) {
    shift_sum += shared_sums[2 * (other * kWarp + threadIdx.x)];
    scale_sum += shared_sums[2 * (other * kWarp + threadIdx.x) + 1];
  }
  dshift[column] = shift_sum;
  dscale[column] = scale_sum;
}

// The gradient of x, from that of the normalized x. `fraction` is 1 / the number of rows over which dscale and dshift are sums.
__global__ void NormalizeBackward(const float* dy, const float* x, const float* mean, const float* inverse, const float* scale, const float* dscale,
                                  const float* dshift, long long count, int columns, float fraction, float* dx) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int c = i % columns;
    const float inverse_std = inverse[c], x_hat = (x[i] - mean[c]) * inverse_std;
    dx[i] = scale[c] * inverse_std * (dy[i] - dshift[c] * fraction - x_hat * dscale[c] * fraction);
  }
}

}  // extern "C"
