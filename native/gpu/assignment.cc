// Soft assignment on a GPU, as native/assignment.cc computes it on the CPU; but the assignment itself, which only products meet from then on, is padded:
// [B, longest G, K], with zeros behind each video's frames, so that one batched product serves all videos.
#include "batch_norm.h"
#include "gpu_call.h"
#include "kernels.h"

namespace nextvlad::gpu {
namespace {

// Warps whose rows of `arrays` arrays of K floats fit a block's shared memory.
unsigned WarpsFor(int64_t clusters, unsigned arrays) {
  if (arrays * clusters * sizeof(float) > kSharedBytes) throw DeviceError("there are more clusters than a GPU's shared memory has room for");
  return std::max(1u, std::min<unsigned>(kWarps, static_cast<unsigned>(kSharedBytes / (arrays * clusters * sizeof(float)))));
}

// The part that training and inference share; `gate` may be null, and `mean`, for zero.
void AssignRows(GpuCall& call, const float* mean, const float* factor, const float* shift, const Offsets& offsets, int64_t groups, int64_t clusters,
                float* assignment, float* gate, float* mass) {
  const unsigned warps = WarpsFor(clusters, 1);
  const unsigned videos = static_cast<unsigned>(offsets.host.size() - 1);
  Launch(Clusters(clusters, groups), "Assign", {static_cast<unsigned>(groups), videos}, {kWarp, warps},
         static_cast<unsigned>(warps * clusters * sizeof(float)), call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), mean, factor, shift, offsets.device,
         static_cast<int>(offsets.longest), assignment, gate, mass);
}

bool Fits(GpuCall& call, int64_t frames, int64_t columns, int64_t groups, const Offsets& offsets) {
  const bool fits = offsets.frames() == frames && frames > 0 && call.Dimension(1, 0) == frames && columns % groups == 0;
  if (!fits) call.Fail("z, attention and frame counts do not fit together");
  return fits;
}

void Assign(GpuCall& call) {
  const int64_t frames = call.Dimension(0, 0), columns = call.Dimension(0, 1), groups = call.Dimension(1, 1), videos = call.Count(4);
  const Offsets offsets = call.SendOffsets(4);
  if (offsets.device == nullptr || !Fits(call, frames, columns, groups, offsets)) return;
  float* assignment = call.Output(0, {videos, offsets.longest * groups, columns / groups});
  float* gate = call.Output(1, {frames, groups});
  const Statistics statistics{call.Output(2, {columns}), call.Output(3, {columns}), call.Output(4, {columns}), call.Temporary(columns)};
  float* mass = call.Output(5, {videos, columns});
  if (call.failed()) return;
  if (!TakeStatistics(call, call.Input<float>(0), frames, columns, call.Input<float>(2), call.Input<float>(5), statistics)) return;
  AssignRows(call, statistics.mean, statistics.factor, call.Input<float>(3), offsets, groups, columns / groups, assignment, gate, mass);
}

void AssignFrozen(GpuCall& call) {
  const int64_t frames = call.Dimension(0, 0), columns = call.Dimension(0, 1), groups = call.Dimension(1, 1), videos = call.Count(4);
  const Offsets offsets = call.SendOffsets(4);
  if (offsets.device == nullptr || !Fits(call, frames, columns, groups, offsets)) return;
  float* assignment = call.Output(0, {videos, offsets.longest * groups, columns / groups});
  float* mass = call.Output(1, {videos, columns});
  if (call.failed()) return;
  AssignRows(call, nullptr, call.Input<float>(2), call.Input<float>(3), offsets, groups, columns / groups, assignment, nullptr, mass);
}

void AssignGradient(GpuCall& call) {
  const float *z = call.Input<float>(4), *mean = call.Input<float>(5), *inverse = call.Input<float>(6);
  const int64_t frames = call.Dimension(4, 0), columns = call.Dimension(4, 1), groups = call.Dimension(3, 1), videos = call.Count(8);
  const int64_t clusters = columns / groups;
  const Offsets offsets = call.SendOffsets(8);
  if (offsets.device == nullptr) return;
  const int64_t padded = videos * offsets.longest * columns;
  if (offsets.frames() != frames || frames == 0 || columns % groups != 0 || call.Count(0) != padded || call.Count(2) != padded ||
      call.Count(1) != videos * columns) {
    return call.Fail("gradients, z and frame counts do not fit together");
  }
  float* dz = call.Output(0, {frames, columns});
  float* dattention = call.Output(1, {frames, groups});
  float* dscale = call.Output(2, {columns});
  float* dshift = call.Output(3, {columns});
  float* parts = call.Temporary(2 * videos * columns);
  if (call.failed()) return;
  const unsigned warps = WarpsFor(clusters, 2);
  Launch(Clusters(clusters, groups), "AssignBack", {static_cast<unsigned>(groups), static_cast<unsigned>(videos)}, {kWarp, warps},
         static_cast<unsigned>(2 * warps * clusters * sizeof(float)), call.stream, static_cast<const float*>(call.Input<float>(0)),
         static_cast<const float*>(call.Input<float>(1)), static_cast<const float*>(call.Input<float>(2)), static_cast<const float*>(call.Input<float>(3)), z,
         mean, inverse, offsets.device, static_cast<int>(offsets.longest), dz, dattention, parts);
  JoinGradients(call, parts, videos, dz, z, mean, inverse, call.Input<float>(7), frames, columns, dz, dscale, dshift);
}

}  // namespace

std::string RegisterAssignment() {
  std::string problem = AddKernel("NextvladAssign", "GPU", Guarded<Assign>, {"frame_counts"});
  if (problem.empty()) problem = AddKernel("NextvladAssignFrozen", "GPU", Guarded<AssignFrozen>, {"frame_counts"});
  if (problem.empty()) problem = AddKernel("NextvladAssignGradient", "GPU", Guarded<AssignGradient>, {"frame_counts"});
  return problem;
}

}  // namespace nextvlad::gpu
