// A Node-API module that is loaded before TensorFlow. Its libraries print a banner from a static initializer that no setting turns off: mute() redirects standard
// error to /dev/null, unmute() restores it. Loading errors are exceptions, so they are not lost.
// preload(path) starts loading a shared library in a thread, which takes 0.3 s for TensorFlow's; finish() waits until it has loaded. The environment must not
// change in between, because the library reads it.
#include <dlfcn.h>
#include <fcntl.h>
#include <node_api.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <system_error>
#include <thread>

static int saved = -1;
static std::thread* loading = nullptr;  // never destroyed; finish() waits for it, also when the process exits

static void RedirectErrors() {
  int null_device = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null_device < 0) return;
  dup2(null_device, STDERR_FILENO);
  close(null_device);
}

static napi_value Mute(napi_env, napi_callback_info) {
  if (saved >= 0) return nullptr;
  saved = dup(STDERR_FILENO);
  if (saved >= 0) RedirectErrors();
  return nullptr;
}

static napi_value Unmute(napi_env, napi_callback_info) {
  if (saved < 0) return nullptr;
  dup2(saved, STDERR_FILENO);
  close(saved);
  saved = -1;
  return nullptr;
}

// An error is not reported: the binding, which depends on the library, fails to load with the same error.
static napi_value Preload(napi_env env, napi_callback_info info) {
  size_t count = 1, length = 0;
  napi_value argument;
  if (loading != nullptr || napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count != 1) return nullptr;
  if (napi_get_value_string_utf8(env, argument, nullptr, 0, &length) != napi_ok) return nullptr;
  std::string path(length, '\0');
  napi_get_value_string_utf8(env, argument, &path[0], length + 1, &length);
  // libuv's signal handlers must not run in the thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    loading = new std::thread([path] {
      // The thread's own table of file descriptors, so that only its standard error is redirected.
      if (unshare(CLONE_FILES) == 0) RedirectErrors();
      dlopen(path.c_str(), RTLD_LAZY);
    });
  } catch (const std::system_error&) {
    // The process may not start more threads.
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return nullptr;
}

static napi_value Finish(napi_env, napi_callback_info) {
  if (loading != nullptr && loading->joinable()) loading->join();
  return nullptr;
}

NAPI_MODULE_INIT() {
  napi_property_descriptor functions[] = {
      {"mute", nullptr, Mute, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"unmute", nullptr, Unmute, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"preload", nullptr, Preload, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"finish", nullptr, Finish, nullptr, nullptr, nullptr, napi_default, nullptr},
  };
  napi_define_properties(env, exports, 4, functions);
  return exports;
}
