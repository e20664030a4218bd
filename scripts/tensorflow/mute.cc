// A Node-API module that is loaded before TensorFlow, whose libraries print a banner from a static initializer that no setting turns off. mute() redirects
// standard error to /dev/null, unmute() restores it. Loading errors are exceptions, so they are not lost.
#include <fcntl.h>
#include <node_api.h>
#include <unistd.h>

static int saved = -1;

static napi_value Mute(napi_env, napi_callback_info) {
  int null_device = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null_device < 0 || saved >= 0) return nullptr;
  saved = dup(STDERR_FILENO);
  if (saved >= 0) dup2(null_device, STDERR_FILENO);
  close(null_device);
  return nullptr;
}

static napi_value Unmute(napi_env, napi_callback_info) {
  if (saved < 0) return nullptr;
  dup2(saved, STDERR_FILENO);
  close(saved);
  saved = -1;
  return nullptr;
}

NAPI_MODULE_INIT() {
  napi_property_descriptor functions[] = {
      {"mute", nullptr, Mute, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"unmute", nullptr, Unmute, nullptr, nullptr, nullptr, napi_default, nullptr},
  };
  napi_define_properties(env, exports, 2, functions);
  return exports;
}
