// The stream that a kernel's work belongs on. TensorFlow's C interface knows those of plugged-in devices only, so this one file asks its C++ classes.
#include "stream.h"

#include "tensorflow/core/framework/op_kernel.h"
#include "xla/stream_executor/stream.h"

namespace nextvlad::gpu {

Stream StreamOf(TF_OpKernelContext* context) {
  return reinterpret_cast<tensorflow::OpKernelContext*>(context)->op_device_context()->stream()->platform_specific_handle().stream;
}

}  // namespace nextvlad::gpu
