// What has to do with clusters, K of them in each of G groups, both constants: what belongs to a row stays in registers. Sums are taken in the same
// order each time.

constexpr int kWarp = 32;
constexpr int kPerLane = (K + kWarp - 1) / kWarp;
// Of a block of Assign and AssignBack: with more clusters the compiler would take more registers for so many than there are.
constexpr int kMostThreads = 512;
// Rows of a descriptor that a block of Describe and DescribeBack works on at once.
constexpr int kRows = 8;

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

// Where a video's frames lie in tensors that are padded to `longest` frames a video.
__device__ long long PaddedRow(int video, int frame, int longest, int group) {
  return (static_cast<long long>(video) * longest + frame) * G + group;
}

extern "C" {

// Softmax over the K clusters of (z - mean) factor + shift, times the attention's sigmoid: `assignment`, padded, with zeros behind a video's frames;
// the sigmoid `gate` [frames, G], unless it is null; and the assignment's sum over each video's frames, `mass` [videos, G K].
// z is [frames, G K]; `mean` may be null, for zero. A block for each group of each video.
__global__ void __launch_bounds__(kMostThreads) Assign(const float* z, const float* attention, const float* mean, const float* factor, const float* shift, const int* offsets, int longest, float* assignment, float* gate, float* mass) {
  extern __shared__ float shared_sums[];  // [warps, K]
  const int group = blockIdx.x, video = blockIdx.y, lane = threadIdx.x, warp = threadIdx.y;
  const int begin = offsets[video], frames = offsets[video + 1] - begin;
  float middle[kPerLane], slope[kPerLane], lift[kPerLane], sums[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const int k = lane + kWarp * i, c = group * K + k;
    const bool is_there = k < K;
    middle[i] = is_there && mean != nullptr ? mean[c] : 0.0f;
    slope[i] = is_there ? factor[c] : 0.0f;
    lift[i] = is_there ? shift[c] : 0.0f;
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
    float value[kPerLane], highest = MinusInfinity(), total = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      value[i] = k < K ? (z[row * K + k] - middle[i]) * slope[i] + lift[i] : MinusInfinity();
      highest = fmaxf(highest, value[i]);
    }
    highest = WarpMax(highest);
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      value[i] = expf(value[i] - highest);
      total += value[i];
    }
    const float open = 1.0f / (1.0f + expf(-attention[row])), share = open / WarpSum(total);
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      value[i] *= share;
      sums[i] += value[i];
      if (k < K) to[k] = value[i];
    }
    if (gate != nullptr && lane == 0) gate[row] = open;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    if (lane + kWarp * i < K) shared_sums[warp * K + lane + kWarp * i] = sums[i];
  }
  __syncthreads();
  for (int k = warp * kWarp + lane; k < K; k += blockDim.y * kWarp) {
    float total = 0;
    for (int other = 0; other < blockDim.y; other++) total += shared_sums[other * K + k];
    mass[(static_cast<long long>(video) * G + group) * K + k] = total;
  }
}

// From the gradients of the assignment (padded) and of the mass to `dy` [frames, G K], that of the normalised logits, and that of the attention; and the sums
// over each video's frames of dy and of dy times the normalised logits, parts [videos, 2, G K]. A block for each group of each video.
__global__ void __launch_bounds__(kMostThreads) AssignBack(const float* through_frames, const float* through_mass, const float* assignment, const float* gate, const float* z,
                           const float* mean, const float* inverse, const int* offsets, int longest, float* dy, float* dattention,
                           float* parts) {
  extern __shared__ float shared_sums[];  // [2, warps, K]
  const int group = blockIdx.x, video = blockIdx.y, lane = threadIdx.x, warp = threadIdx.y;
  const int begin = offsets[video], frames = offsets[video + 1] - begin;
  float middle[kPerLane], one_over[kPerLane], ofmass[kPerLane], shift[kPerLane], scale[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const int k = lane + kWarp * i, c = group * K + k;
    const bool is_there = k < K;
    middle[i] = is_there ? mean[c] : 0.0f;
    one_over[i] = is_there ? inverse[c] : 0.0f;
    ofmass[i] = is_there ? through_mass[static_cast<long long>(video) * G * K + c] : 0.0f;
    shift[i] = scale[i] = 0;
  }
  for (int frame = warp; frame < frames; frame += blockDim.y) {
    const long long padded = PaddedRow(video, frame, longest, group);
    const long long row = static_cast<long long>(begin + frame) * G + group;
    float a[kPerLane], da[kPerLane], pull = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      a[i] = k < K ? assignment[padded * K + k] : 0.0f;
      da[i] = k < K ? through_frames[padded * K + k] + ofmass[i] : 0.0f;
      pull += a[i] * da[i];
    }
    pull = WarpSum(pull);
    const float open = gate[row], mean_da = open > 0 ? pull / open : 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
      const int k = lane + kWarp * i;
      if (k >= K) continue;
      const float d = a[i] * (da[i] - mean_da);
      dy[row * K + k] = d;
      shift[i] += d;
      scale[i] += d * (z[row * K + k] - middle[i]) * one_over[i];
    }
    if (lane == 0) dattention[row] = pull * (1 - open);
  }
  float* scales = shared_sums + blockDim.y * K;
#pragma unroll
  for (int i = 0; i < kPerLane; i++) {
    const int k = lane + kWarp * i;
    if (k >= K) continue;
    shared_sums[warp * K + k] = shift[i];
    scales[warp * K + k] = scale[i];
  }
  __syncthreads();
  for (int k = warp * kWarp + lane; k < K; k += blockDim.y * kWarp) {
    float shift_total = 0, scale_total = 0;
    for (int other = 0; other < blockDim.y; other++) {
      shift_total += shared_sums[other * K + k];
      scale_total += scales[other * K + k];
    }
    const int c = group * K + k, columns = G * K;
    parts[2LL * video * columns + c] = shift_total;
    parts[(2LL * video + 1) * columns + c] = scale_total;
  }
}

// The sums over a video's frames minus what the centres take away, with the expansion's bias: value[p, k] = sums[p, k] + sum over g of bias[g, p] mass[g, k]
// - centres[k, p] (sum over g of mass[g, k]); then each cluster's column brought to length 1. A block for 32 clusters of a video, [32, kRows] threads.
// sums and unit are [videos, P, K], mass [videos, G K], inverse [videos, K].
__global__ void Describe(const float* sums, const float* mass, const float* bias, const float* centres, float epsilon, int group_size, float* unit,
                         float* inverse) {
  __shared__ float squares[kRows][kWarp];
  const int video = blockIdx.y, k = blockIdx.x * kWarp + threadIdx.x, row = threadIdx.y;
  const long long base = static_cast<long long>(video) * group_size * K + k;
  float share[G], total = 0, squared = 0;
  if (k < K) {
#pragma unroll
    for (int g = 0; g < G; g++) total += share[g] = mass[(static_cast<long long>(video) * G + g) * K + k];
    for (int p = row; p < group_size; p += kRows) {
      float value = sums[base + static_cast<long long>(p) * K] - centres[k * group_size + p] * total;
#pragma unroll
      for (int g = 0; g < G; g++) value += bias[g * group_size + p] * share[g];
      unit[base + static_cast<long long>(p) * K] = value;
      squared += value * value;
    }
  }
  squares[row][threadIdx.x] = squared;
  __syncthreads();
  if (k >= K) return;
  squared = 0;
  for (int other = 0; other < kRows; other++) squared += squares[other][threadIdx.x];
  const float one_over = 1.0f / sqrtf(squared + epsilon);
  // A thread reads what it wrote itself.
  for (int p = row; p < group_size; p += kRows) unit[base + static_cast<long long>(p) * K] *= one_over;
  if (row == 0) inverse[static_cast<long long>(video) * K + k] = one_over;
}

// From the gradient of `unit` to those of the sums and of the mass. Blocks as above.
__global__ void DescribeBack(const float* dunit, const float* unit, const float* inverse, const float* bias, const float* centres, int group_size,
                             float* dsums, float* dmass) {
  __shared__ float parts[kRows][kWarp];
  const int video = blockIdx.y, k = blockIdx.x * kWarp + threadIdx.x, row = threadIdx.y;
  const long long base = static_cast<long long>(video) * group_size * K + k;
  float along = 0;
  if (k < K) {
    for (int p = row; p < group_size; p += kRows) along += dunit[base + static_cast<long long>(p) * K] * unit[base + static_cast<long long>(p) * K];
  }
  parts[row][threadIdx.x] = along;
  __syncthreads();
  along = 0;
  for (int other = 0; other < kRows; other++) along += parts[other][threadIdx.x];
  float shares[G] = {}, away = 0;
  if (k < K) {
    const float one_over = inverse[static_cast<long long>(video) * K + k];
    for (int p = row; p < group_size; p += kRows) {
      const long long at = base + static_cast<long long>(p) * K;
      const float d = (dunit[at] - unit[at] * along) * one_over;
      dsums[at] = d;
      away += d * centres[k * group_size + p];
#pragma unroll
      for (int g = 0; g < G; g++) shares[g] += d * bias[g * group_size + p];
    }
  }
#pragma unroll
  for (int g = 0; g < G; g++) {
    __syncthreads();
    parts[row][threadIdx.x] = shares[g] - away;
    __syncthreads();
    if (row > 0 || k >= K) continue;
    float sum = 0;
    for (int other = 0; other < kRows; other++) sum += parts[other][threadIdx.x];
    dmass[(static_cast<long long>(video) * G + g) * K + k] = sum;
  }
}

// The gradients of centres [K, P] and bias [G, P] from that of the sums. A block for each p, of threads for k.
__global__ void DescribeParameters(const float* dsums, const float* mass, int videos, int group_size, float* dcentres, float* dbias) {
  extern __shared__ float shared_sums[];  // [G, threads]
  const int p = blockIdx.x;
  float of_bias[G] = {};
  for (int k = threadIdx.x; k < K; k += blockDim.x) {
    float of_centre = 0;
    for (int video = 0; video < videos; video++) {
      const float d = dsums[(static_cast<long long>(video) * group_size + p) * K + k];
      float total = 0;
#pragma unroll
      for (int g = 0; g < G; g++) {
        const float share = mass[(static_cast<long long>(video) * G + g) * K + k];
        total += share;
        of_bias[g] += d * share;
      }
      of_centre -= d * total;
    }
    dcentres[k * group_size + p] = of_centre;
  }
#pragma unroll
  for (int g = 0; g < G; g++) shared_sums[g * blockDim.x + threadIdx.x] = of_bias[g];
  __syncthreads();
  for (int g = threadIdx.x; g < G; g += blockDim.x) {
    float sum = 0;
    for (int other = 0; other < blockDim.x; other++) sum += shared_sums[g * blockDim.x + other];
    dbias[g * group_size + p] = sum;
  }
}

}  // extern "C"
