// Soft assignment on a GPU, as in native/assignment.cc; but the assignment, which is used in products only, is padded to [B, longest G, K], with zeros after
// each video's frames, so that one batched product serves all videos.
#include "batch_norm.h"
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

// The number of warps for which `arrays` arrays of K floats per warp fit a block's shared memory.
unsigned WarpsFor(int64_t clusters, unsigned arrays) {
  if (arrays * clusters * sizeof(float) > kSharedBytes) throw DeviceError("too many clusters (" + std::to_string(clusters) + ") for a GPU's shared memory");
  return std::max(1u, std::min<unsigned>(kMaxWarps, static_cast<unsigned>(kSharedBytes / (arrays * clusters * sizeof(float)))));
}

// The part that training and inference share. `attention` may be null; a null `mean` is zero.
void AssignRows(GpuCall& call, const float* mean, const float* factor, const float* shift, const FrameOffsets& offsets, int64_t groups, int64_t clusters,
                float* assignment, float* attention, float* a_sum) {
  const unsigned warps = WarpsFor(clusters, 1);
  const unsigned videos = static_cast<unsigned>(offsets.videos());
  Launch(Clusters(clusters, groups), "Assign", {static_cast<unsigned>(groups), videos}, {kWarp, warps},
         static_cast<unsigned>(warps * clusters * sizeof(float)), call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), mean, factor, shift, offsets.device,
         static_cast<int>(offsets.longest), assignment, attention, a_sum);
}

// The sizes of a batch, from z [N, G K], a tensor [N, G] and the frame counts [B].
struct Batch {
  int64_t frames, columns, groups, clusters, videos;
  FrameOffsets offsets;
};

Batch BatchOf(GpuCall& call, int z, int per_group, int frame_counts) {
  const auto shape = call.Expect(z, {GpuCall::kAny, GpuCall::kAny});
  const int64_t frames = shape[0], columns = shape[1], groups = call.Expect(per_group, {frames, GpuCall::kAny})[1];
  GpuCall::Require(frames > 0, "the batch has no frames");
  GpuCall::Require(groups > 0 && columns % groups == 0, std::to_string(columns) + " columns do not split into " + std::to_string(groups) + " groups");
  const FrameOffsets offsets = call.SendOffsets(frame_counts, frames);
  return {frames, columns, groups, columns / groups, offsets.videos(), offsets};
}

void ComputeMoments(GpuCall& call) {
  const auto shape = call.Expect(0, {GpuCall::kAny, GpuCall::kAny});
  GpuCall::Require(shape[0] > 0, "the batch has no rows");
  PartialMoments(call, call.Input<float>(0), shape[0], shape[1], call.Output(0, {MomentChunks(shape[0]), shape[1], kMoments}));
}

void Assign(GpuCall& call) {
  const auto [frames, columns, groups, clusters, videos, offsets] = BatchOf(call, 0, 1, 5);
  const int64_t parts = call.Expect(2, {GpuCall::kAny, columns, kMoments})[0];
  GpuCall::Require(parts > 0, "the batch has no moments");
  for (int i = 3; i <= 4; i++) call.Expect(i, {columns});
  call.ExpectCount(6, 1);
  float* assignment = call.Output(0, {videos, offsets.longest * groups, clusters});
  float* attention = call.Output(1, {frames, groups});
  const Statistics statistics{call.Output(2, {columns}), call.Output(3, {columns}), call.Output(4, {columns}), call.Temporary(columns)};
  float* a_sum = call.Output(5, {videos, columns});
  MergeMoments(call, call.Input<float>(2), parts, columns, call.Input<float>(3), call.Input<float>(6), statistics);
  AssignRows(call, statistics.mean, statistics.factor, call.Input<float>(4), offsets, groups, clusters, assignment, attention, a_sum);
}

void AssignFrozen(GpuCall& call) {
  const auto [frames, columns, groups, clusters, videos, offsets] = BatchOf(call, 0, 1, 4);
  for (int i = 2; i <= 3; i++) call.Expect(i, {columns});
  float* assignment = call.Output(0, {videos, offsets.longest * groups, clusters});
  float* a_sum = call.Output(1, {videos, columns});
  AssignRows(call, nullptr, call.Input<float>(2), call.Input<float>(3), offsets, groups, clusters, assignment, nullptr, a_sum);
}

void AssignGradient(GpuCall& call) {
  const auto [frames, columns, groups, clusters, videos, offsets] = BatchOf(call, 4, 3, 7);
  for (int i : {0, 2}) call.Expect(i, {videos, offsets.longest * groups, clusters});
  call.Expect(1, {videos, columns});
  for (int i = 5; i <= 6; i++) call.Expect(i, {columns});
  float* dnormalized = call.Output(0, {frames, columns});
  float* dalpha = call.Output(1, {frames, groups});
  float* dscale = call.Output(2, {columns});
  float* dshift = call.Output(3, {columns});
  float* parts = call.Temporary(2 * videos * columns);
  const unsigned warps = WarpsFor(clusters, 2);
  Launch(Clusters(clusters, groups), "AssignBackward", {static_cast<unsigned>(groups), static_cast<unsigned>(videos)}, {kWarp, warps},
         static_cast<unsigned>(2 * warps * clusters * sizeof(float)), call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<const float*>(call.Input<float>(3)),
         static_cast<const float*>(call.Input<float>(4)), static_cast<const float*>(call.Input<float>(5)), static_cast<const float*>(call.Input<float>(6)),
         offsets.device, static_cast<int>(offsets.longest), dnormalized, dalpha, parts);
  SumGradients(call, parts, videos, columns, dscale, dshift);
}

void LogitsGradient(GpuCall& call) {
  const auto shape = call.Expect(0, {GpuCall::kAny, GpuCall::kAny});
  const int64_t frames = shape[0], columns = shape[1];
  call.Expect(1, {frames, columns});
  for (int i = 2; i <= 6; i++) call.Expect(i, {columns});
  call.ExpectCount(7, 1);
  NormalizeBackward(call, call.Input<float>(0), call.Input<float>(1), call.Input<float>(2), call.Input<float>(3), call.Input<float>(4), call.Input<float>(5),
                    call.Input<float>(6), frames, columns, *call.Input<int32_t>(7), call.Output(0, {frames, columns}));
}

}  // namespace

// The ops are defined in ../assignment.cc.
std::string RegisterAssignment() {
  std::string problem = AddKernel("NextvladMoments", "GPU", Guarded<GpuCall, ComputeMoments>);
  if (problem.empty()) problem = AddKernel("NextvladAssign", "GPU", Guarded<GpuCall, Assign>, {"frame_counts"});
  if (problem.empty()) problem = AddKernel("NextvladAssignFrozen", "GPU", Guarded<GpuCall, AssignFrozen>, {"frame_counts"});
  if (problem.empty()) problem = AddKernel("NextvladAssignGradient", "GPU", Guarded<GpuCall, AssignGradient>, {"frame_counts"});
  if (problem.empty()) problem = AddKernel("NextvladLogitsGradient", "GPU", Guarded<GpuCall, LogitsGradient>, {"frames"});
  return problem;
}

}  // namespace nextvlad::gpu
