#include "kernels.h"
#include "kernel.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Inputs: bytes (uint8, carried four to a float), scale [F], offset [F], frames []. Output: u * scale + offset, [frames, F].
void Dequantise(void*, TF_OpKernelContext* context) {
  Call call(context);
  const uint8_t* bytes = call.Input<uint8_t>(0);
  const float* scale = call.Input<float>(1);
  const float* offset = call.Input<float>(2);
  const int64_t frames = *call.Input<int32_t>(3);
  const int64_t features = call.Dimension(1, 0);
  if (call.Count(0) * 4 < frames * features) return call.Fail("fewer bytes than frames * features");
  float* y = call.Output(0, {frames, features});
  if (y == nullptr) return;
  ParallelFor(frames, [=](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const uint8_t* u = bytes + t * features;
      float* out = y + t * features;
#pragma omp simd
      for (int64_t f = 0; f < features; f++) out[f] = static_cast<float>(u[f]) * scale[f] + offset[f];
    }
  });
}

}  // namespace

std::string RegisterDequantise() {
  return Register("NextvladDequantise", {"bytes: float", "scale: float", "offset: float", "frames: int32"}, {"y: float"}, Dequantise);
}

}  // namespace nextvlad
