// Converts frames from bytes to floats, and to and from a padded layout with the same number of frames for each video.

extern "C" {

// y = u * scale + offset. A thread converts four values at a time.
__global__ void Dequantize(const unsigned char* bytes, const float* scale, const float* offset, long long count, int features, float* y) {
  const long long stride = 4LL * gridDim.x * blockDim.x;
  for (long long at = 4 * (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x); at < count; at += stride) {
    if (features % 4 == 0) {
      const uchar4 u = *reinterpret_cast<const uchar4*>(bytes + at);
      const int f = at % features;
      const float4 s = *reinterpret_cast<const float4*>(scale + f), o = *reinterpret_cast<const float4*>(offset + f);
      *reinterpret_cast<float4*>(y + at) = make_float4(u.x * s.x + o.x, u.y * s.y + o.y, u.z * s.z + o.z, u.w * s.w + o.w);
    } else {
      for (long long i = at; i < at + 4 && i < count; i++) y[i] = bytes[i] * scale[i % features] + offset[i % features];
    }
  }
}

// From contiguous rows, those of a video from offsets[video], to `longest` rows per video, with zeros after the video's own. One block per row of `columns`.
__global__ void Pad(const float* rows, const int* offsets, int longest, int columns, float* padded) {
  const int frame = blockIdx.x, video = blockIdx.y;
  const bool is_valid = frame < offsets[video + 1] - offsets[video];
  const float* from = rows + static_cast<long long>(offsets[video] + frame) * columns;
  float* to = padded + (static_cast<long long>(video) * longest + frame) * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) to[c] = is_valid ? from[c] : 0.0f;
}

// The inverse of Pad.
__global__ void Unpad(const float* padded, const int* offsets, int longest, int columns, float* rows) {
  const int frame = blockIdx.x, video = blockIdx.y;
  if (frame >= offsets[video + 1] - offsets[video]) return;
  const float* from = padded + (static_cast<long long>(video) * longest + frame) * columns;
  float* to = rows + static_cast<long long>(offsets[video] + frame) * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) to[c] = from[c];
}

}  // extern "C"
