// The Node-API module that registers the kernels with TensorFlow when it is loaded. The GPU's kernels are always registered; CUDA's libraries are loaded when one
// of them first runs. Its exports are typed as NativeKernels in src/runtime/runtime.ts.
#include <node_api.h>

#include "integers.h"
#include "kernels.h"
#include "parallel.h"
#include "tsl/platform/tensor_float_32_utils.h"
#include "gpu/device.h"
#include "gpu/kernels.h"

namespace {

// allowTensorFloat32(allowed).
napi_value AllowTensorFloat32(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  bool allowed = false;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) == napi_ok && count == 1) napi_get_value_bool(env, argument, &allowed);
  tsl::enable_tensor_float_32_execution(allowed);
  return nullptr;
}

// setThreads(count).
napi_value SetThreads(napi_env env, napi_callback_info info) {
  size_t arguments = 1;
  napi_value argument;
  int32_t count = 0;
  if (napi_get_cb_info(env, info, &arguments, &argument, nullptr, nullptr) != napi_ok || arguments != 1 ||
      napi_get_value_int32(env, argument, &count) != napi_ok || count < 1) {
    napi_throw_error(env, nullptr, "setThreads expects a positive integer");
    return nullptr;
  }
  nextvlad::Pool::SetThreads(count);
  return nullptr;
}

// stage(floats): see gpu/device.h.
napi_value Stage(napi_env env, napi_callback_info info) {
  size_t count = 1, length = 0;
  napi_value argument, handle;
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count != 1 ||
      napi_get_typedarray_info(env, argument, &type, &length, &data, nullptr, nullptr) != napi_ok || type != napi_float32_array) {
    napi_throw_error(env, nullptr, "stage expects a Float32Array");
    return nullptr;
  }
  try {
    napi_create_uint32(env, static_cast<uint32_t>(nextvlad::gpu::Stage(data, length * sizeof(float))), &handle);
    return handle;
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
}

void ExportNumber(napi_env env, napi_value exports, const char* name, uint32_t value) {
  napi_value number;
  napi_create_uint32(env, value, &number);
  napi_set_named_property(env, exports, name, number);
}

void ExportFunction(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

}  // namespace

NAPI_MODULE_INIT() {
  for (auto registration : {
           nextvlad::RegisterDequantize, nextvlad::RegisterAssignment, nextvlad::RegisterDense, nextvlad::RegisterDenseAdam, nextvlad::RegisterUpdates,
           nextvlad::RegisterCopy, nextvlad::RegisterSplit, nextvlad::RegisterFrames, nextvlad::RegisterFrameSums, nextvlad::RegisterByteProducts,
           nextvlad::RegisterFloatProducts, nextvlad::RegisterDescriptor, nextvlad::RegisterBatchNorm, nextvlad::RegisterDropout, nextvlad::RegisterGate,
           nextvlad::RegisterCrossEntropy, nextvlad::RegisterFrozenDense,
           nextvlad::gpu::RegisterFrames, nextvlad::gpu::RegisterBatchNorm, nextvlad::gpu::RegisterAssignment, nextvlad::gpu::RegisterDescriptors,
           nextvlad::gpu::RegisterUpdates,
       }) {
    const std::string problem = registration();
    if (!problem.empty()) {
      napi_throw_error(env, nullptr, problem.c_str());
      return nullptr;
    }
  }
  napi_value has_byte_instructions;
  napi_get_boolean(env, nextvlad::kByteInstructions, &has_byte_instructions);
  napi_set_named_property(env, exports, "byteInstructions", has_byte_instructions);
  ExportNumber(env, exports, "vectorBits", nextvlad::kSimdLanes * 32);
  ExportNumber(env, exports, "maxStagedBytes", nextvlad::gpu::kMaxStagedBytes);
  ExportFunction(env, exports, "allowTensorFloat32", AllowTensorFloat32);
  ExportFunction(env, exports, "setThreads", SetThreads);
  ExportFunction(env, exports, "stage", Stage);
  return exports;
}
