// The little that a kernel needs of TensorFlow's C interface for kernels (tensorflow/c/kernels.h, ops.h).
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

namespace nextvlad {

// One call of a kernel: its inputs and outputs, freed at the end of the call.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }

  // The input's memory. A variable's value that was read is the variable's own memory: writing to it updates the variable.
  template <class T>
  T* Input(int index) {
    return static_cast<T*>(TF_TensorData(Fetch(index)));
  }
  int Rank(int index) { return TF_NumDims(Fetch(index)); }
  int64_t Dimension(int index, int axis) { return TF_Dim(Fetch(index), axis); }
  int64_t Count(int index) { return TF_TensorElementCount(Fetch(index)); }

  float* Output(int index, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    TF_Tensor* tensor = TF_AllocateOutput(context_, index, TF_FLOAT, shape.data(), shape.size(), count * sizeof(float), status_);
    return Hold(tensor);
  }

  // Memory for the length of the call; on a GPU, for what was started in it.
  float* Temporary(int64_t floats) {
    TF_AllocatorAttributes attributes{TF_ALLOCATOR_ATTRIBUTES_STRUCT_SIZE, 0};
    TF_Tensor* tensor = TF_AllocateTemp(context_, TF_FLOAT, &floats, 1, &attributes, status_);
    return Hold(tensor);
  }

  // Whether memory was asked for in vain.
  bool failed() const { return failed_; }

  // Fails the call: shapes are the caller's fault, and are told as such.
  void Fail(const char* message, TF_Code code = TF_INVALID_ARGUMENT) {
    TF_SetStatus(status_, code, message);
    TF_OpKernelContext_Failure(context_, status_);
  }

 private:
  float* Hold(TF_Tensor* tensor) {
    if (TF_GetCode(status_) != TF_OK) {
      failed_ = true;
      TF_OpKernelContext_Failure(context_, status_);
      return nullptr;
    }
    tensors_.push_back(tensor);
    return static_cast<float*>(TF_TensorData(tensor));
  }

  TF_Tensor* Fetch(int index) {
    if (static_cast<int>(inputs_.size()) <= index) inputs_.resize(index + 1, nullptr);
    if (inputs_[index] == nullptr) {
      TF_GetInput(context_, index, &inputs_[index], status_);
      tensors_.push_back(inputs_[index]);
    }
    return inputs_[index];
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  bool failed_ = false;
  std::vector<TF_Tensor*> inputs_, tensors_;
};

using Compute = void (*)(void*, TF_OpKernelContext*);
using Names = std::initializer_list<const char*>;

// Tells TensorFlow of an op; returns what went wrong, or nothing.
inline std::string Define(const char* name, Names inputs, Names outputs) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(op, output);
  // Stateful: what it does to a variable's memory must be done each time.
  TF_OpDefinitionBuilderSetIsStateful(op, true);
  TF_RegisterOpDefinition(op, status);
  std::string message = TF_GetCode(status) == TF_OK ? "" : std::string(name) + ": " + TF_Message(status);
  TF_DeleteStatus(status);
  return message;
}

// Gives an op its kernel for a device, "CPU" or "GPU"; `on_host` names the inputs that stay in the host's memory. Returns what went wrong, or nothing.
inline std::string AddKernel(const char* name, const char* device, Compute compute, Names on_host = {}) {
  TF_Status* status = TF_NewStatus();
  TF_KernelBuilder* kernel = TF_NewKernelBuilder(name, device, nullptr, compute, nullptr);
  for (const char* input : on_host) TF_KernelBuilder_HostMemory(kernel, input);
  TF_RegisterKernelBuilder(name, kernel, status);
  std::string message = TF_GetCode(status) == TF_OK ? "" : std::string(name) + ": " + TF_Message(status);
  TF_DeleteStatus(status);
  return message;
}

// An op with a kernel for the CPU.
inline std::string Register(const char* name, Names inputs, Names outputs, Compute compute) {
  const std::string problem = Define(name, inputs, outputs);
  return problem.empty() ? AddKernel(name, "CPU", compute) : problem;
}

}  // namespace nextvlad
