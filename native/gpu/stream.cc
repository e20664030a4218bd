// Returns the CUDA stream of a kernel. TensorFlow's C API has it for plug-in devices only, so this one file uses its C++ classes. Their headers take 9 s to
// compile, so they are used in the GPU build only (NEXTVLAD_GPU), and not for a processor level: their Eigen does not compile with AVX512-FP16.
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
