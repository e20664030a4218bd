// The Node-API module that brings the kernels into TensorFlow when it is loaded, those for a GPU wherever it is: CUDA's libraries are looked for when one of
// them runs. It exports `vectorBits`, the width of the vectors that the kernels were compiled for, 512 with AVX-512 and 256 with AVX2; `byteInstructions`,
// whether the processor multiplies bytes faster than floats; `stage(floats)`, which copies them to where a GPU can
// reach them; and `allowTensorFloat32(allowed)`, which says whether a GPU's products may round their factors to ten binary digits.
#include <node_api.h>

#include "byte_panels.h"
#include "kernels.h"
#include "tsl/platform/tensor_float_32_utils.h"
#include "gpu/device.h"
#include "gpu/kernels.h"

namespace {

napi_value AllowTensorFloat32(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  bool allowed = false;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) == napi_ok && count == 1) napi_get_value_bool(env, argument, &allowed);
  tsl::enable_tensor_float_32_execution(allowed);
  return nullptr;
}

// Of a typed array: see gpu/device.h.
napi_value Stage(napi_env env, napi_callback_info info) {
  size_t count = 1, length = 0;
  napi_value argument, place;
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count != 1 ||
      napi_get_typedarray_info(env, argument, &type, &length, &data, nullptr, nullptr) != napi_ok || type != napi_float32_array) {
    napi_throw_error(env, nullptr, "stage takes a Float32Array");
    return nullptr;
  }
  try {
    napi_create_uint32(env, static_cast<uint32_t>(nextvlad::gpu::Stage(data, length * sizeof(float))), &place);
    return place;
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
}

void Function(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

}  // namespace

NAPI_MODULE_INIT() {
  for (auto registration : {
           nextvlad::RegisterDequantise, nextvlad::RegisterAssignment, nextvlad::RegisterDense, nextvlad::RegisterDenseAdam, nextvlad::RegisterUpdates,
           nextvlad::RegisterCopy, nextvlad::RegisterSplit, nextvlad::RegisterFrames, nextvlad::RegisterFrameSums, nextvlad::RegisterByteProducts,
           nextvlad::gpu::RegisterFrames, nextvlad::gpu::RegisterBatchNorm, nextvlad::gpu::RegisterAssignment, nextvlad::gpu::RegisterDescriptors,
           nextvlad::gpu::RegisterUpdates,
       }) {
    const std::string problem = registration();
    if (!problem.empty()) {
      napi_throw_error(env, nullptr, problem.c_str());
      return nullptr;
    }
  }
  napi_value bits, fast;
  napi_create_uint32(env, nextvlad::kSimdLanes * 32, &bits);
  napi_set_named_property(env, exports, "vectorBits", bits);
  napi_get_boolean(env, nextvlad::kByteInstructions, &fast);
  napi_set_named_property(env, exports, "byteInstructions", fast);
  Function(env, exports, "allowTensorFloat32", AllowTensorFloat32);
  Function(env, exports, "stage", Stage);
  return exports;
}
