// The kernels for a GPU; each registration returns what went wrong, or nothing. Those of native/ must be registered first.
#pragma once

#include <string>

namespace nextvlad::gpu {

std::string RegisterFrames();
std::string RegisterBatchNorm();
std::string RegisterAssignment();
std::string RegisterDescriptors();
std::string RegisterUpdates();

}  // namespace nextvlad::gpu
