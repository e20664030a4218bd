#include "device.h"

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "driver.h"

// Embeds the text of a file in this library.
#define NEXTVLAD_TEXT(name, file)           \
  asm("  .section .rodata\n"               \
      "nextvlad_" #name ":\n"              \
      "  .incbin \"native/" file "\"\n"  \
      "  .byte 0\n"                        \
      "  .previous\n");                    \
  extern "C" __attribute__((visibility("hidden"))) const char nextvlad_##name[]

NEXTVLAD_TEXT(frames, "gpu/frames.cu");
NEXTVLAD_TEXT(batch_norm, "gpu/batch_norm.cu");
NEXTVLAD_TEXT(updates, "gpu/updates.cu");
NEXTVLAD_TEXT(clusters, "gpu/clusters.cu");
NEXTVLAD_TEXT(constants, "gpu/constants.h");
NEXTVLAD_TEXT(adam, "adam.h");

namespace nextvlad::gpu {
namespace {

// NVRTC, NVIDIA's runtime compiler.
struct Compiler {
  void* library = Open("libnvrtc.so.12");
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*) = Find(library, "nvrtcCreateProgram");
  int (*compile)(void*, int, const char* const*) = Find(library, "nvrtcCompileProgram");
  int (*log_size)(void*, size_t*) = Find(library, "nvrtcGetProgramLogSize");
  int (*log)(void*, char*) = Find(library, "nvrtcGetProgramLog");
  int (*code_size)(void*, size_t*) = Find(library, "nvrtcGetCUBINSize");
  int (*code)(void*, char*) = Find(library, "nvrtcGetCUBIN");
  int (*destroy)(void**) = Find(library, "nvrtcDestroyProgram");
};

// Compiles a program to machine code for the current device.
std::vector<char> Compile(const Program& of) {
  static const Compiler nvrtc;
  const Driver& driver = Driver::Shared();
  int device, major, minor;
  driver.Check(driver.current_device(&device), "cannot find the device");
  driver.Check(driver.attribute(&major, kComputeCapabilityMajor, device), "cannot read the device's architecture");
  driver.Check(driver.attribute(&minor, kComputeCapabilityMinor, device), "cannot read the device's architecture");
  const std::string architecture = "sm_" + std::to_string(major) + std::to_string(minor);
  const std::string options[] = {"--gpu-architecture=" + architecture, "-DK=" + std::to_string(of.clusters), "-DG=" + std::to_string(of.groups)};
  const char* texts[] = {options[0].c_str(), options[1].c_str(), options[2].c_str(), "--std=c++17"};
  // The headers that .cu files include, by the names they include them by.
  const char *const headers[] = {nextvlad_constants, nextvlad_adam}, *const names[] = {"constants.h", "../adam.h"};
  void* program = nullptr;
  if (nvrtc.create(&program, of.text, of.name, 2, headers, names) != 0) throw DeviceError("NVRTC cannot create a program");
  size_t size = 0;
  if (nvrtc.compile(program, 4, texts) != 0) {
    nvrtc.log_size(program, &size);
    std::string log(size, '\0');
    nvrtc.log(program, log.data());
    nvrtc.destroy(&program);
    throw DeviceError(std::string("NVRTC cannot compile ") + of.name + " for " + architecture + ": " + log);
  }
  nvrtc.code_size(program, &size);
  std::vector<char> code(size);
  nvrtc.code(program, code.data());
  nvrtc.destroy(&program);
  return code;
}

void* KernelOf(const Program& program, const char* name) {
  using Key = std::tuple<const char*, int, int>;
  static std::mutex mutex;
  static std::map<Key, void*> modules;
  static std::map<std::pair<Key, std::string>, void*> kernels;
  std::lock_guard<std::mutex> lock(mutex);
  const Key key{program.text, program.clusters, program.groups};
  void*& kernel = kernels[{key, name}];
  if (kernel != nullptr) return kernel;
  const Driver& driver = Driver::Shared();
  void*& module = modules[key];
  if (module == nullptr) driver.Check(driver.load_module(&module, Compile(program).data()), program.name);
  driver.Check(driver.find_function(&kernel, module, name), name);
  return kernel;
}

}  // namespace

Program Frames() { return {"frames.cu", nextvlad_frames}; }
Program BatchNorm() { return {"batch_norm.cu", nextvlad_batch_norm}; }
Program Updates() { return {"updates.cu", nextvlad_updates}; }
Program Clusters(int64_t clusters, int64_t groups) {
  return {"clusters.cu", nextvlad_clusters, static_cast<int>(clusters), static_cast<int>(groups)};
}

void Start(const Program& program, const char* kernel, Grid grid, Block block, unsigned shared_bytes, Stream stream, void** arguments) {
  if (grid.x == 0 || grid.y == 0) return;
  const Driver& driver = Driver::Shared();
  void* function = KernelOf(program, kernel);
  driver.Check(driver.launch(function, grid.x, grid.y, 1, block.x, block.y, 1, shared_bytes, stream, arguments, nullptr), kernel);
}

}  // namespace nextvlad::gpu
