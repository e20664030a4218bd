// Registers the GPU kernels, after those of native/. Each function returns an error message, or an empty string.
#pragma once

#include <string>

namespace nextvlad::gpu {

std::string RegisterFrames();
std::string RegisterBatchNorm();
std::string RegisterAssignment();
std::string RegisterDescriptors();
std::string RegisterUpdates();

}  // namespace nextvlad::gpu
