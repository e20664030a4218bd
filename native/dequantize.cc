#include "kernels.h"
#include "kernel.h"
#include "parallel.h"

namespace nextvlad {
namespace {

// Inputs: bytes (uint8, packed four to a float), scale [F], offset [F], frames []. Output: u * scale + offset, [frames, F].
void Dequantize(Call& call) {
  const int64_t features = call.Expect(1, {Call::kAny})[0], frames = *call.Sizes(3, 1);
  call.Expect(2, {features});
  const uint8_t* bytes = call.Bytes(0, frames * features);
  const float* scale = call.Input<float>(1);
  const float* offset = call.Input<float>(2);
  float* y = call.Output(0, {frames, features});
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

std::string RegisterDequantize() {
  return Register<Dequantize>("NextvladDequantize", {"bytes: float", "scale: float", "offset: float", "frames: int32"}, {"y: float"});
}

}  // namespace nextvlad
