// Registers the CPU kernels. Each function returns an error message, or an empty string.
#pragma once

#include <string>

namespace nextvlad {

std::string RegisterDequantize();
std::string RegisterAssignment();
std::string RegisterDense();
std::string RegisterDenseAdam();
std::string RegisterFrozenDense();
std::string RegisterUpdates();
std::string RegisterCopy();
std::string RegisterSplit();
std::string RegisterFrameSums();
std::string RegisterFrames();
std::string RegisterByteProducts();
std::string RegisterFloatProducts();
std::string RegisterDescriptor();
std::string RegisterBatchNorm();
std::string RegisterDropout();
std::string RegisterGate();
std::string RegisterCrossEntropy();

}  // namespace nextvlad
