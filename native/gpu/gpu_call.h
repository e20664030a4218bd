// `Call` for kernels on a GPU.
#pragma once

#include <algorithm>
#include <vector>

#include "../kernel.h"
#include "constants.h"
#include "device.h"
#include "stream.h"

namespace nextvlad::gpu {

constexpr int64_t kMaxVideos = 65535;  // the maximum of a grid's second dimension
constexpr unsigned kSharedBytes = 48 << 10;
constexpr unsigned kThreads = 256;

// Blocks of kThreads for `values` values: at most a few per multiprocessor of the largest device, so that a thread may process several values.
inline Grid GridFor(int64_t values) { return {static_cast<unsigned>(std::min<int64_t>((values + kThreads - 1) / kThreads, 4096)), 1}; }

// The index of each video's first frame, and at the end the number of frames, [videos + 1]: on the host and on the device.
struct FrameOffsets {
  std::vector<int32_t> host;
  const int* device;
  int32_t longest;
  int32_t frames() const { return host.back(); }
  int64_t videos() const { return static_cast<int64_t>(host.size()) - 1; }
};

class GpuCall : public Call {
 public:
  explicit GpuCall(TF_OpKernelContext* context) : Call(context), stream(StreamOf(context)) {}

  // Computes the offsets from frame counts [videos] in host memory, and copies them to the device. Throws if the counts do not add up to `frames`, unless it
  // is kAny.
  FrameOffsets SendOffsets(int input, int64_t frames = kAny) {
    FrameOffsets offsets{frames == kAny ? Offsets(input) : Offsets(input, frames), nullptr, 0};
    const int64_t videos = offsets.videos();
    Require(videos <= kMaxVideos, "the batch has too many videos for a GPU (at most 65535)");
    for (int64_t v = 0; v < videos; v++) offsets.longest = std::max(offsets.longest, offsets.host[v + 1] - offsets.host[v]);
    float* memory = Temporary(videos + 1);
    Send(offsets.host.data(), offsets.host.size() * sizeof(int32_t), memory, stream);
    offsets.device = reinterpret_cast<const int*>(memory);
    return offsets;
  }

  const Stream stream;
};

}  // namespace nextvlad::gpu
