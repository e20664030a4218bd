// What a kernel for the GPU needs besides `Call`.
#pragma once

#include <algorithm>
#include <vector>

#include "../kernel.h"
#include "device.h"
#include "stream.h"

namespace nextvlad::gpu {

constexpr unsigned kWarp = 32;
constexpr unsigned kWarps = 16;
constexpr int64_t kMostVideos = 65535;  // a grid's second side
constexpr unsigned kSharedBytes = 48 << 10;
constexpr unsigned kThreads = 256;

// Blocks of kThreads for so many values, a few for each of the largest device's processors: each thread then takes several.
inline Grid GridFor(int64_t values) { return {static_cast<unsigned>(std::min<int64_t>((values + kThreads - 1) / kThreads, 4096)), 1}; }

// Where each video's frames begin, and the last one's end: on the host and on the device, [videos + 1].
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

  // Of frame counts [videos] in the host's memory, which must add up to `frames` unless that is kAny.
  FrameOffsets SendOffsets(int input, int64_t frames = kAny) {
    FrameOffsets offsets{frames == kAny ? Offsets(input) : Offsets(input, frames), nullptr, 0};
    const int64_t videos = offsets.videos();
    Require(videos <= kMostVideos, "a batch has more videos than a GPU's grid has rows: use a smaller one");
    for (int64_t v = 0; v < videos; v++) offsets.longest = std::max(offsets.longest, offsets.host[v + 1] - offsets.host[v]);
    float* memory = Temporary(videos + 1);
    Send(offsets.host.data(), offsets.host.size() * sizeof(int32_t), memory, stream);
    offsets.device = reinterpret_cast<const int*>(memory);
    return offsets;
  }

  const Stream stream;
};

}  // namespace nextvlad::gpu
