// The Node-API module that brings the kernels into TensorFlow when it is loaded; it exports nothing.
#include <node_api.h>

#include "kernels.h"

NAPI_MODULE_INIT() {
  for (auto registration : {nextvlad::RegisterDequantise, nextvlad::RegisterAssignment, nextvlad::RegisterDense, nextvlad::RegisterDenseAdam}) {
    const std::string problem = registration();
    if (!problem.empty()) {
      napi_throw_error(env, nullptr, problem.c_str());
      return nullptr;
    }
  }
  return exports;
}
