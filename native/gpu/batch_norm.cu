// The parts of a batch norm over rows. Blocks of those that take sums are of 32 columns and some rows; sums are taken in the same order each time.

constexpr int kWarp = 32;

// A number of values with their mean and the sum of their squared distances from it (Chan, Golub and LeVeque 1979).
struct Moments {
  float count, mean, squares;
};

__device__ Moments Join(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0) return a;
  const float away = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + away * share, a.squares + b.squares + away * away * a.count * share};
}

extern "C" {

// Moments of each column over `chunk` rows of x [rows, columns]: parts [chunks, columns]. Blocks are of 32 columns.
__global__ void PartMoments(const float* x, int rows, int columns, int chunk, Moments* parts) {
  extern __shared__ Moments shared_moments[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
  Moments own = {0, 0, 0};
  if (column < columns) {
    // Sums of distances from a value among them lose no digits to a mean that is far from zero.
    const float origin = x[static_cast<long long>(begin) * columns + column];
    float sum = 0, squares = 0;
    for (int row = begin + threadIdx.y; row < end; row += blockDim.y) {
      const float away = x[static_cast<long long>(row) * columns + column] - origin;
      own.count += 1;
      sum += away;
      squares += away * away;
    }
    if (own.count > 0) {
      own.mean = origin + sum / own.count;
      own.squares = fmaxf(0.0f, squares - sum * sum / own.count);
    }
  }
  shared_moments[threadIdx.y * kWarp + threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) own = Join(own, shared_moments[other * kWarp + threadIdx.x]);
  parts[static_cast<long long>(blockIdx.y) * columns + column] = own;
}

// Mean, biased variance, 1 / sqrt(variance + epsilon) and scale / sqrt(variance + epsilon) of each column, from its parts.
__global__ void JoinMoments(const Moments* parts, int chunks, int columns, const float* scale, const float* epsilon, float* mean, float* variance,
                            float* inverse, float* factor) {
  extern __shared__ Moments shared_moments[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  Moments own = {0, 0, 0};
  if (column < columns) {
    for (int chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y) own = Join(own, parts[static_cast<long long>(chunk) * columns + column]);
  }
  shared_moments[threadIdx.y * kWarp + threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) own = Join(own, shared_moments[other * kWarp + threadIdx.x]);
  const float spread = own.squares / own.count, one_over = 1.0f / sqrtf(spread + *epsilon);
  mean[column] = own.mean;
  variance[column] = spread;
  inverse[column] = one_over;
  factor[column] = scale[column] * one_over;
}

// y = (x - mean) factor + shift.
__global__ void Normalise(const float* x, const float* mean, const float* factor, const float* shift, long long count, int columns, float* y) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int c = i % columns;
    y[i] = (x[i] - mean[c]) * factor[c] + shift[c];
  }
}

// Sums of dy and of dy times the normalised x over `chunk` rows of each column: parts [chunks, 2, columns]. Blocks are of 32 columns.
__global__ void PartSums(const float* dy, const float* x, const float* mean, const float* inverse, int rows, int columns, int chunk, float* parts) {
  extern __shared__ float shared_sums[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
  float shift = 0, scale = 0;
  if (column < columns) {
    const float middle = mean[column], one_over = inverse[column];
    for (int row = begin + threadIdx.y; row < end; row += blockDim.y) {
      const long long at = static_cast<long long>(row) * columns + column;
      shift += dy[at];
      scale += dy[at] * (x[at] - middle) * one_over;
    }
  }
  float* mine = shared_sums + 2 * (threadIdx.y * kWarp + threadIdx.x);
  mine[0] = shift;
  mine[1] = scale;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) {
    shift += shared_sums[2 * (other * kWarp + threadIdx.x)];
    scale += shared_sums[2 * (other * kWarp + threadIdx.x) + 1];
  }
  parts[(2LL * blockIdx.y) * columns + column] = shift;
  parts[(2LL * blockIdx.y + 1) * columns + column] = scale;
}

// The gradients of shift and scale from their parts [chunks, 2, columns].
__global__ void JoinSums(const float* parts, int chunks, int columns, float* dscale, float* dshift) {
  extern __shared__ float shared_sums[];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  float shift = 0, scale = 0;
  if (column < columns) {
    for (int chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y) {
      shift += parts[(2LL * chunk) * columns + column];
      scale += parts[(2LL * chunk + 1) * columns + column];
    }
  }
  float* mine = shared_sums + 2 * (threadIdx.y * kWarp + threadIdx.x);
  mine[0] = shift;
  mine[1] = scale;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int other = 1; other < blockDim.y; other++) {
    shift += shared_sums[2 * (other * kWarp + threadIdx.x)];
    scale += shared_sums[2 * (other * kWarp + threadIdx.x) + 1];
  }
  dshift[column] = shift;
  dscale[column] = scale;
}

// From the gradient of a batch norm's output to that of its input; dx may be dy.
__global__ void NormaliseBack(const float* dy, const float* x, const float* mean, const float* inverse, const float* scale, const float* dscale,
                              const float* dshift, int rows, int columns, float* dx) {
  const long long count = static_cast<long long>(rows) * columns, stride = static_cast<long long>(gridDim.x) * blockDim.x;
  const float share = 1.0f / rows;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int c = i % columns;
    const float one_over = inverse[c], hat = (x[i] - mean[c]) * one_over;
    dx[i] = scale[c] * one_over * (dy[i] - dshift[c] * share - hat * dscale[c] * share);
  }
}

}  // extern "C"
