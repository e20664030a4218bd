// What a kernel for the GPU needs besides `Call`.
#pragma once

#include <algorithm>
#include <exception>
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
struct Offsets {
  std::vector<int32_t> host;
  const int* device;
  int32_t longest;
  int32_t frames() const { return host.back(); }
};

class GpuCall : public Call {
 public:
  explicit GpuCall(TF_OpKernelContext* context) : Call(context), stream(StreamOf(context)) {}

  // Of frame counts [videos] in the host's memory; `device` is null where there was no memory, and the call has failed.
  Offsets SendOffsets(int input) {
    const int32_t* counts = Input<int32_t>(input);
    const int64_t videos = Count(input);
    if (videos > kMostVideos) throw DeviceError("a batch has more videos than a GPU's grid has rows: use a smaller one");
    Offsets offsets{std::vector<int32_t>(videos + 1, 0), nullptr, 0};
    for (int64_t v = 0; v < videos; v++) {
      offsets.host[v + 1] = offsets.host[v] + counts[v];
      offsets.longest = std::max(offsets.longest, counts[v]);
    }
    float* memory = Temporary(videos + 1);
    if (memory != nullptr) Send(offsets.host.data(), offsets.host.size() * sizeof(int32_t), memory, stream);
    offsets.device = reinterpret_cast<const int*>(memory);
    return offsets;
  }

  const Stream stream;
};

// A kernel's work with what the driver says no to, and what else is thrown, told as the kernel's failure.
template <void (*kWork)(GpuCall&)>
void Guarded(void*, TF_OpKernelContext* context) {
  GpuCall call(context);
  try {
    kWork(call);
  } catch (const std::exception& error) {
    call.Fail(error.what(), TF_INTERNAL);
  }
}

}  // namespace nextvlad::gpu
