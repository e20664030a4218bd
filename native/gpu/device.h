// NVIDIA's driver and its run-time compiler, of which TensorFlow's wheels bring the one and the machine the other: loaded when the first kernel
// runs, so that the library also loads where there is no GPU. Their interface is of CUDA 12 (cuda.h, nvrtc.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace nextvlad::gpu {

// What the driver said no to, in words.
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

// A .cu file of this folder. clusters.cu is compiled for each K and G, which are then constants; for the others they are 1.
struct Program {
  const char* name;
  const char* text;
  int clusters = 1, groups = 1;
};
Program Frames();
Program BatchNorm();
Program Updates();
Program Clusters(int64_t clusters, int64_t groups);

// Starts a program's kernel on the stream; `arguments` are the addresses of its arguments. Compiles the program, if this is its first.
void Start(const Program& program, const char* kernel, Grid grid, Block block, unsigned shared_bytes, Stream stream, void** arguments);

// The same from the arguments themselves, each of exactly the type of the kernel's parameter.
template <class... Arguments>
void Launch(const Program& program, const char* kernel, Grid grid, Block block, unsigned shared_bytes, Stream stream, Arguments... arguments) {
  void* addresses[] = {&arguments...};
  Start(program, kernel, grid, block, shared_bytes, stream, addresses);
}

// Copies bytes to where the device can reach them by itself (staging.cc), and returns where that is, in units of kStagingUnit bytes; at most kMostStaged of
// them. Waits for nothing that the device still has to do, unless there is no room but behind that.
size_t Stage(const void* bytes, size_t count);
constexpr size_t kStagingUnit = 256;
constexpr size_t kMostStaged = size_t{128} << 20;

// Copies what was staged to the device on the stream; once for each Stage.
void SendStaged(size_t place, size_t count, void* to, Stream stream);

// Both at once.
void Send(const void* bytes, size_t count, void* to, Stream stream);

}  // namespace nextvlad::gpu
