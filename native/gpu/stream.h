#pragma once

#include "device.h"
#include "tensorflow/c/kernels.h"

namespace nextvlad::gpu {

Stream StreamOf(TF_OpKernelContext* context);

}  // namespace nextvlad::gpu
