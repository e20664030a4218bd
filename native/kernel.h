// Wraps TensorFlow's C API for kernels (tensorflow/c/kernels.h, ops.h).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

namespace nextvlad {

// Fails a kernel: Guarded reports it to TensorFlow.
struct KernelError : std::runtime_error {
  explicit KernelError(const std::string& message, TF_Code code = TF_INVALID_ARGUMENT) : std::runtime_error(message), code(code) {}
  const TF_Code code;
};

// One call of a kernel: its inputs and outputs, which are freed at the end of the call. Throws KernelError if TensorFlow reports an error.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }
  Call(const Call&) = delete;

  // The input's memory. The value read from a variable is the variable's own memory: writing to it updates the variable.
  template <class T>
  T* Input(int index) {
    return static_cast<T*>(TF_TensorData(Fetch(index)));
  }
  int64_t Count(int index) { return TF_TensorElementCount(Fetch(index)); }
  std::vector<int64_t> Shape(int index) {
    TF_Tensor* tensor = Fetch(index);
    std::vector<int64_t> shape(TF_NumDims(tensor));
    for (size_t axis = 0; axis < shape.size(); axis++) shape[axis] = TF_Dim(tensor, axis);
    return shape;
  }

  // Returns the input's shape. Throws if it differs from `expected`, in which kAny matches any size.
  static constexpr int64_t kAny = -1;
  std::vector<int64_t> Expect(int index, const std::vector<int64_t>& expected) {
    const std::vector<int64_t> shape = Shape(index);
    bool same = shape.size() == expected.size();
    for (size_t axis = 0; same && axis < shape.size(); axis++) same = expected[axis] == kAny || shape[axis] == expected[axis];
    Require(same, "input " + std::to_string(index) + " has shape " + Format(shape) + ", expected " + Format(expected));
    return shape;
  }

  // Throws if the input does not have this number of values, in any shape.
  void ExpectCount(int index, int64_t expected) {
    const int64_t count = Count(index);
    Require(count == expected, "input " + std::to_string(index) + " has " + std::to_string(count) + " values, expected " + std::to_string(expected));
  }

  // Throws `message` if `condition` is false.
  static void Require(bool condition, const std::string& message) {
    if (!condition) throw KernelError(message);
  }

  // Returns bytes packed four to a float. Throws if there are fewer than `expected`.
  uint8_t* Bytes(int index, int64_t expected) {
    const int64_t count = Count(index) * 4;
    Require(count >= expected, "input " + std::to_string(index) + " has " + std::to_string(count) + " bytes, expected " + std::to_string(expected));
    return Input<uint8_t>(index);
  }

  // Returns `count` sizes, from a vector or, for one, a scalar. Throws if one is not positive.
  const int32_t* Sizes(int index, int64_t count) {
    ExpectCount(index, count);
    const int32_t* sizes = Input<int32_t>(index);
    for (int64_t i = 0; i < count; i++) Require(sizes[i] > 0, "size " + std::to_string(i) + " is " + std::to_string(sizes[i]) + ", expected 1 or more");
    return sizes;
  }

  // The index of each video's first frame, from frame counts [B], and at the end the number of frames: [B + 1].
  std::vector<int32_t> Offsets(int index) {
    const int64_t videos = Expect(index, {kAny})[0];
    const int32_t* counts = Input<int32_t>(index);
    std::vector<int32_t> offsets(videos + 1, 0);
    int64_t frames = 0;
    for (int64_t v = 0; v < videos; v++) {
      Require(counts[v] >= 0, "video " + std::to_string(v) + " has " + std::to_string(counts[v]) + " frames");
      frames += counts[v];
      Require(frames <= INT32_MAX, "the batch has too many frames (at most 2147483647)");
      offsets[v + 1] = static_cast<int32_t>(frames);
    }
    return offsets;
  }

  // The same. Throws if the frame counts do not add up to `frames`.
  std::vector<int32_t> Offsets(int index, int64_t frames) {
    const std::vector<int32_t> offsets = Offsets(index);
    Require(offsets.back() == frames, "the frame counts add up to " + std::to_string(offsets.back()) + ", expected " + std::to_string(frames));
    return offsets;
  }

  float* Output(int index, const std::vector<int64_t>& shape) {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    return Own(TF_AllocateOutput(context_, index, TF_FLOAT, shape.data(), shape.size(), count * sizeof(float), status_));
  }

  // Memory that is freed at the end of the call; on a GPU, after the work that the call has started.
  float* Temporary(int64_t floats) {
    TF_AllocatorAttributes attributes{TF_ALLOCATOR_ATTRIBUTES_STRUCT_SIZE, 0};
    return Own(TF_AllocateTemp(context_, TF_FLOAT, &floats, 1, &attributes, status_));
  }

  // Marks the call as failed.
  void Fail(const char* message, TF_Code code) {
    TF_SetStatus(status_, code, message);
    TF_OpKernelContext_Failure(context_, status_);
  }

 private:
  static std::string Format(const std::vector<int64_t>& shape) {
    std::string text = "[";
    for (size_t axis = 0; axis < shape.size(); axis++) text += (axis == 0 ? "" : ", ") + (shape[axis] == kAny ? "any" : std::to_string(shape[axis]));
    return text + "]";
  }

  void Check() {
    if (TF_GetCode(status_) != TF_OK) throw KernelError(TF_Message(status_), TF_GetCode(status_));
  }

  float* Own(TF_Tensor* tensor) {
    Check();
    tensors_.push_back(tensor);
    return static_cast<float*>(TF_TensorData(tensor));
  }

  TF_Tensor* Fetch(int index) {
    if (static_cast<int>(inputs_.size()) <= index) inputs_.resize(index + 1, nullptr);
    if (inputs_[index] == nullptr) {
      TF_Tensor* tensor = nullptr;
      TF_GetInput(context_, index, &tensor, status_);
      Check();
      inputs_[index] = tensor;
      tensors_.push_back(tensor);
    }
    return inputs_[index];
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> inputs_, tensors_;
};

// Runs a kernel, and converts an exception to the kernel's failure.
template <class AnyCall, void (*kWork)(AnyCall&)>
void Guarded(void*, TF_OpKernelContext* context) {
  AnyCall call(context);
  try {
    kWork(call);
  } catch (const KernelError& error) {
    call.Fail(error.what(), error.code);
  } catch (const std::bad_alloc&) {
    call.Fail("out of memory", TF_RESOURCE_EXHAUSTED);
  } catch (const std::exception& error) {
    call.Fail(error.what(), TF_INTERNAL);
  }
}

using Compute = void (*)(void*, TF_OpKernelContext*);
using Names = std::initializer_list<const char*>;

// Registers an op. Returns an error message, or an empty string.
inline std::string Define(const char* name, Names inputs, Names outputs) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(op, output);
  // Stateful, because it may update a variable's memory: TensorFlow must not skip or merge calls.
  TF_OpDefinitionBuilderSetIsStateful(op, true);
  TF_RegisterOpDefinition(op, status);
  std::string message = TF_GetCode(status) == TF_OK ? "" : std::string(name) + ": " + TF_Message(status);
  TF_DeleteStatus(status);
  return message;
}

// Registers an op's kernel for a device, "CPU" or "GPU". `on_host` names the inputs that stay in host memory. Returns an error message, or an empty string.
inline std::string AddKernel(const char* name, const char* device, Compute compute, Names on_host = {}) {
  TF_Status* status = TF_NewStatus();
  TF_KernelBuilder* kernel = TF_NewKernelBuilder(name, device, nullptr, compute, nullptr);
  for (const char* input : on_host) TF_KernelBuilder_HostMemory(kernel, input);
  TF_RegisterKernelBuilder(name, kernel, status);
  std::string message = TF_GetCode(status) == TF_OK ? "" : std::string(name) + ": " + TF_Message(status);
  TF_DeleteStatus(status);
  return message;
}

// Registers an op with a CPU kernel. Returns an error message, or an empty string.
template <void (*kWork)(Call&)>
std::string Register(const char* name, Names inputs, Names outputs) {
  const std::string problem = Define(name, inputs, outputs);
  return problem.empty() ? AddKernel(name, "CPU", Guarded<Call, kWork>) : problem;
}

}  // namespace nextvlad
