// Constants shared by the GPU kernels (.cu), which NVRTC compiles, and the code that launches them.
#pragma once

namespace nextvlad::gpu {

constexpr int kWarp = 32;  // threads
// Warps in a block of Assign and AssignBackward, at most: with more, and many clusters, the compiler would need more registers than there are.
constexpr int kMaxWarps = 16;
// Rows of a descriptor that a block of Describe and DescribeBackward processes at once.
constexpr int kDescriptorRows = 8;

}  // namespace nextvlad::gpu
