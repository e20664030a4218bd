// The functions of NVIDIA's driver that this library calls, from libcuda.so.1.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <string>

#include "device.h"

namespace nextvlad::gpu {

constexpr int kComputeCapabilityMajor = 75, kComputeCapabilityMinor = 76;
constexpr unsigned kNoTiming = 2;

inline void* Open(const char* name) {
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw DeviceError(std::string(dlerror()));
  return library;
}

// The address of a library's function; converts to any function pointer.
struct Symbol {
  void* address;
  template <class Function>
  operator Function*() const {
    return reinterpret_cast<Function*>(address);
  }
};
inline Symbol Find(void* library, const char* name) {
  void* address = dlsym(library, name);
  if (address == nullptr) throw DeviceError(std::string(dlerror()));
  return {address};
}

struct Driver {
  static const Driver& Shared() {
    static const Driver* driver = new Driver();  // never freed: kernels may run until the process ends
    return *driver;
  }

  void* library = Open("libcuda.so.1");
  int (*initialise)(unsigned) = Find(library, "cuInit");
  int (*device)(int*, int) = Find(library, "cuDeviceGet");
  int (*retain_primary)(void**, int) = Find(library, "cuDevicePrimaryCtxRetain");
  int (*push_context)(void*) = Find(library, "cuCtxPushCurrent_v2");
  int (*pop_context)(void**) = Find(library, "cuCtxPopCurrent_v2");
  int (*current_device)(int*) = Find(library, "cuCtxGetDevice");
  int (*attribute)(int*, int, int) = Find(library, "cuDeviceGetAttribute");
  int (*load_module)(void**, const void*) = Find(library, "cuModuleLoadData");
  int (*find_function)(void**, void*, const char*) = Find(library, "cuModuleGetFunction");
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**) = Find(library, "cuLaunchKernel");
  int (*allocate_host)(void**, size_t, unsigned) = Find(library, "cuMemHostAlloc");
  int (*copy_to_device)(unsigned long long, const void*, size_t, void*) = Find(library, "cuMemcpyHtoDAsync_v2");
  int (*create_event)(void**, unsigned) = Find(library, "cuEventCreate");
  int (*record_event)(void*, void*) = Find(library, "cuEventRecord");
  int (*wait_for_event)(void*) = Find(library, "cuEventSynchronize");
  int (*describe)(int, const char**) = Find(library, "cuGetErrorString");

  // Throws DeviceError, "what: the driver's message", if a call failed.
  void Check(int result, const char* what) const {
    if (result == 0) return;
    const char* text = nullptr;
    describe(result, &text);
    throw DeviceError(std::string(what) + ": " + (text == nullptr ? "CUDA error " + std::to_string(result) : text));
  }
};

}  // namespace nextvlad::gpu
