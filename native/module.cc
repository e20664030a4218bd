// The Node-API module that brings the kernels into TensorFlow when it is loaded; it exports `byteInstructions`, whether the processor
// multiplies bytes faster than floats.
#include <node_api.h>

#include "byte_panels.h"
#include "kernels.h"

NAPI_MODULE_INIT() {
  for (auto registration : {nextvlad::RegisterDequantise, nextvlad::RegisterAssignment, nextvlad::RegisterDense, nextvlad::RegisterDenseAdam,
                            nextvlad::RegisterSplit, nextvlad::RegisterFrames, nextvlad::RegisterByteProducts}) {
    const std::string problem = registration();
    if (!problem.empty()) {
      napi_throw_error(env, nullptr, problem.c_str());
      return nullptr;
    }
  }
  napi_value fast;
  napi_get_boolean(env, nextvlad::kByteInstructions, &fast);
  napi_set_named_property(env, exports, "byteInstructions", fast);
  return exports;
}
