// The kernels of this library; each registration returns what went wrong, or nothing.
#pragma once

#include <string>

namespace nextvlad {

std::string RegisterDequantise();
std::string RegisterAssignment();
std::string RegisterDense();
std::string RegisterDenseAdam();
std::string RegisterUpdates();
std::string RegisterCopy();
std::string RegisterSplit();
std::string RegisterFrameSums();
std::string RegisterFrames();
std::string RegisterByteProducts();

}  // namespace nextvlad
