// The stream that a kernel's work belongs on. TensorFlow's C interface knows those of plugged-in devices only, so this one file asks its C++ classes.
// Their headers take 9 s to compile: it is compiled so where there is a GPU only (NEXTVLAD_GPU). And never with -march=native: their Eigen does not
// compile where that means AVX512-FP16.
#include "stream.h"

#ifdef NEXTVLAD_GPU

#include "tensorflow/core/framework/op_kernel.h"
#include "xla/stream_executor/stream.h"

namespace nextvlad::gpu {

Stream StreamOf(TF_OpKernelContext* context) {
  return reinterpret_cast<tensorflow::OpKernelContext*>(context)->op_device_context()->stream()->platform_specific_handle().stream;
}

}  // namespace nextvlad::gpu

#else

#include "device.h"

namespace nextvlad::gpu {

Stream StreamOf(TF_OpKernelContext*) { throw DeviceError("this library was compiled for the CPU: set up again with NEXTVLAD_DEVICE=gpu"); }

}  // namespace nextvlad::gpu

#endif
