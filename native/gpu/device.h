// NVIDIA's driver, which the machine provides, and its runtime compiler, which TensorFlow's wheels provide. Both are loaded when the first kernel runs, so that
// this library also loads without a GPU. Their APIs are those of CUDA 12 (cuda.h, nvrtc.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace nextvlad::gpu {

// A failed call of the driver or the compiler.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Stream = void*;

struct Grid {
  unsigned x, y;
};
struct Block {
  unsigned x, y;
};

// A .cu file of this folder. clusters.cu is compiled for each K and G, as constants; for the other files they are 1.
struct Program {
  const char* name;
  const char* text;
  int clusters = 1, groups = 1;
};
Program Frames();
Program BatchNorm();
Program Updates();
Program Clusters(int64_t clusters, int64_t groups);

// Starts a program's kernel on the stream. `arguments` are the addresses of its arguments. Compiles the program on first use.
void Start(const Program& program, const char* kernel, Grid grid, Block block, unsigned shared_bytes, Stream stream, void** arguments);

// The same, with the arguments themselves. Each must have exactly the type of the kernel's parameter.
template <class... Arguments>
void Launch(const Program& program, const char* kernel, Grid grid, Block block, unsigned shared_bytes, Stream stream, Arguments... arguments) {
  void* addresses[] = {&arguments...};
  Start(program, kernel, grid, block, shared_bytes, stream, addresses);
}

// Copies at most kMaxStagedBytes bytes to pinned host memory (staging.cc). Returns a handle for SendStaged, the position in units of kStagingUnit bytes. Waits for
// the device only if the memory is full of pending copies.
size_t Stage(const void* bytes, size_t count);
constexpr size_t kStagingUnit = 256;
constexpr size_t kMaxStagedBytes = size_t{128} << 20;

// Copies staged bytes to the device, on the stream. Call it once per Stage.
void SendStaged(size_t handle, size_t count, void* to, Stream stream);

// Stage and SendStaged.
void Send(const void* bytes, size_t count, void* to, Stream stream);

}  // namespace nextvlad::gpu
