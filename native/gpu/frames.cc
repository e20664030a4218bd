// What moves frames: from the host, from bytes to floats, and to and from a layout in which all videos have as many.
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

// Inputs: where floats were staged, and their shape. Output: the floats.
void Upload(GpuCall& call) {
  const int32_t* sides = call.Input<int32_t>(1);
  const std::vector<int64_t> shape(sides, sides + call.Count(1));
  int64_t count = 1;
  for (int64_t side : shape) count *= side;
  float* y = call.Output(0, shape);
  if (y != nullptr) SendStaged(*call.Input<int32_t>(0), count * sizeof(float), y, call.stream);
}

// As NextvladDequantise on the CPU.
void Dequantise(GpuCall& call) {
  const int64_t frames = *call.Input<int32_t>(3), features = call.Dimension(1, 0), count = frames * features;
  if (call.Count(0) * 4 < count) return call.Fail("fewer bytes than frames * features");
  float* y = call.Output(0, {frames, features});
  if (y == nullptr) return;
  Launch(Frames(), "Dequantise", GridFor((count + 3) / 4), {kThreads, 1}, 0, call.stream, static_cast<const unsigned char*>(call.Input<uint8_t>(0)),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<long long>(count),
         static_cast<int>(features), y);
}

// Inputs: rows [frames, C], frame counts [B], parts of a row []. Output: [B, longest * parts, C / parts], with zeros behind each video's frames.
void Pad(GpuCall& call) {
  const int64_t frames = call.Dimension(0, 0), columns = call.Dimension(0, 1), parts = *call.Input<int32_t>(2);
  const Offsets offsets = call.SendOffsets(1);
  if (offsets.device == nullptr) return;
  if (offsets.frames() != frames || parts < 1 || columns % parts != 0) return call.Fail("rows, frame counts and parts do not fit together");
  const int64_t videos = call.Count(1);
  float* y = call.Output(0, {videos, offsets.longest * parts, columns / parts});
  if (y == nullptr) return;
  Launch(Frames(), "Pad", {static_cast<unsigned>(offsets.longest), static_cast<unsigned>(videos)}, {kThreads, 1}, 0, call.stream,
         static_cast<const float*>(call.Input<float>(0)), offsets.device, static_cast<int>(offsets.longest), static_cast<int>(columns), y);
}

// Inputs: padded, of B * longest * C values in whatever shape, frame counts [B]. Output: [frames, C].
void Unpad(GpuCall& call) {
  const Offsets offsets = call.SendOffsets(1);
  if (offsets.device == nullptr) return;
  const int64_t videos = call.Count(1), places = videos * offsets.longest;
  if (places == 0 || call.Count(0) % places != 0) return call.Fail("padded rows and frame counts do not fit together");
  const int64_t columns = call.Count(0) / places;
  float* y = call.Output(0, {offsets.frames(), columns});
  if (y == nullptr) return;
  Launch(Frames(), "Unpad", {static_cast<unsigned>(offsets.longest), static_cast<unsigned>(videos)}, {kThreads, 1}, 0, call.stream,
         static_cast<const float*>(call.Input<float>(0)), offsets.device, static_cast<int>(offsets.longest), static_cast<int>(columns), y);
}

}  // namespace

std::string RegisterFrames() {
  std::string problem = Define("NextvladUpload", {"place: int32", "shape: int32"}, {"values: float"});
  if (problem.empty()) problem = AddKernel("NextvladUpload", "GPU", Guarded<Upload>, {"place", "shape"});
  if (problem.empty()) problem = AddKernel("NextvladDequantise", "GPU", Guarded<Dequantise>, {"frames"});
  if (problem.empty()) problem = Define("NextvladPad", {"rows: float", "frame_counts: int32", "parts: int32"}, {"padded: float"});
  if (problem.empty()) problem = AddKernel("NextvladPad", "GPU", Guarded<Pad>, {"frame_counts", "parts"});
  if (problem.empty()) problem = Define("NextvladUnpad", {"padded: float", "frame_counts: int32"}, {"rows: float"});
  if (problem.empty()) problem = AddKernel("NextvladUnpad", "GPU", Guarded<Unpad>, {"frame_counts"});
  return problem;
}

}  // namespace nextvlad::gpu
