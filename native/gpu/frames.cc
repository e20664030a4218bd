// Uploads frames, converts them from bytes to floats, and to and from a padded layout with the same number of frames for each video.
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

// Inputs: the handle of staged floats, and their shape. Output: the floats.
void Upload(GpuCall& call) {
  call.ExpectCount(0, 1);
  const int64_t rank = call.Expect(1, {GpuCall::kAny})[0];
  const int32_t* sizes = call.Input<int32_t>(1);
  const std::vector<int64_t> shape(sizes, sizes + rank);
  int64_t count = 1;
  for (int64_t size : shape) {
    GpuCall::Require(size >= 0, "a dimension is " + std::to_string(size));
    count *= size;
    GpuCall::Require(count <= static_cast<int64_t>(kMaxStagedBytes / sizeof(float)), "the tensor is larger than the maximum for staging");
  }
  SendStaged(*call.Input<int32_t>(0), count * sizeof(float), call.Output(0, shape), call.stream);
}

// As in native/dequantize.cc.
void Dequantize(GpuCall& call) {
  const int64_t features = call.Expect(1, {GpuCall::kAny})[0], frames = *call.Sizes(3, 1), count = frames * features;
  call.Expect(2, {features});
  const uint8_t* bytes = call.Bytes(0, count);
  float* y = call.Output(0, {frames, features});
  Launch(Frames(), "Dequantize", GridFor((count + 3) / 4), {kThreads, 1}, 0, call.stream, static_cast<const unsigned char*>(bytes),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<long long>(count),
         static_cast<int>(features), y);
}

// Inputs: rows [frames, C], frame counts [B], parts per row []. Output: [B, longest * parts, C / parts], with zeros after each video's frames.
void Pad(GpuCall& call) {
  const auto shape = call.Expect(0, {GpuCall::kAny, GpuCall::kAny});
  const int64_t columns = shape[1], parts = *call.Sizes(2, 1);
  GpuCall::Require(columns % parts == 0, std::to_string(columns) + " columns do not split into " + std::to_string(parts) + " parts");
  const FrameOffsets offsets = call.SendOffsets(1, shape[0]);
  const int64_t videos = offsets.videos();
  float* y = call.Output(0, {videos, offsets.longest * parts, columns / parts});
  Launch(Frames(), "Pad", {static_cast<unsigned>(offsets.longest), static_cast<unsigned>(videos)}, {kThreads, 1}, 0, call.stream,
         static_cast<const float*>(call.Input<float>(0)), offsets.device, static_cast<int>(offsets.longest), static_cast<int>(columns), y);
}

// Inputs: padded rows, B * longest * C values in any shape; frame counts [B]. Output: [frames, C].
void Unpad(GpuCall& call) {
  const FrameOffsets offsets = call.SendOffsets(1);
  const int64_t videos = offsets.videos(), padded_frames = videos * offsets.longest;
  GpuCall::Require(padded_frames > 0 && call.Count(0) % padded_frames == 0, std::to_string(call.Count(0)) + " padded values do not split into " + std::to_string(padded_frames) + " frames");
  const int64_t columns = call.Count(0) / padded_frames;
  float* y = call.Output(0, {offsets.frames(), columns});
  Launch(Frames(), "Unpad", {static_cast<unsigned>(offsets.longest), static_cast<unsigned>(videos)}, {kThreads, 1}, 0, call.stream,
         static_cast<const float*>(call.Input<float>(0)), offsets.device, static_cast<int>(offsets.longest), static_cast<int>(columns), y);
}

}  // namespace

std::string RegisterFrames() {
  std::string problem = Define("NextvladUpload", {"handle: int32", "shape: int32"}, {"values: float"});
  if (problem.empty()) problem = AddKernel("NextvladUpload", "GPU", Guarded<GpuCall, Upload>, {"handle", "shape"});
  if (problem.empty()) problem = AddKernel("NextvladDequantize", "GPU", Guarded<GpuCall, Dequantize>, {"frames"});
  if (problem.empty()) problem = Define("NextvladPad", {"rows: float", "frame_counts: int32", "parts: int32"}, {"padded: float"});
  if (problem.empty()) problem = AddKernel("NextvladPad", "GPU", Guarded<GpuCall, Pad>, {"frame_counts", "parts"});
  if (problem.empty()) problem = Define("NextvladUnpad", {"padded: float", "frame_counts: int32"}, {"rows: float"});
  if (problem.empty()) problem = AddKernel("NextvladUnpad", "GPU", Guarded<GpuCall, Unpad>, {"frame_counts"});
  return problem;
}

}  // namespace nextvlad::gpu
