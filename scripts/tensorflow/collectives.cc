// Part of the binding: runs collective ops in a thread, one after another, so that this process computes while it exchanges tensors with the other ranks. The
// linker's --wrap=TFE_Execute makes the binding call the function below. A collective op returns at once, as its only output, a number: a float32 scalar. The op
// NextvladAwait waits for the collective op with that number, and returns its output or its error.
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>

#include "tensorflow/c/eager/c_api.h"
#include "tensorflow/c/eager/c_api_experimental.h"
#include "tensorflow/c/ops.h"

extern "C" void __real_TFE_Execute(TFE_Op* op, TFE_TensorHandle** outputs, int* count, TF_Status* status);

namespace {

constexpr char kAwait[] = "NextvladAwait";

template <class T, void (*kDelete)(T*)>
struct Deleter {
  void operator()(T* value) const { kDelete(value); }
};
using Op = std::unique_ptr<TFE_Op, Deleter<TFE_Op, TFE_DeleteOp>>;
using Executor = std::unique_ptr<TFE_Executor, Deleter<TFE_Executor, TFE_DeleteExecutor>>;
using Tensor = std::unique_ptr<TF_Tensor, Deleter<TF_Tensor, TF_DeleteTensor>>;

// The outputs of collective ops that no NextvladAwait has returned yet, by number. Only the binding's thread uses them.
std::unordered_map<int, TFE_TensorHandle*> pending;

bool Failed(TF_Status* status) { return TF_GetCode(status) != TF_OK; }

// Makes the ops that this thread creates run in a thread of their own, one after another, for as long as it exists.
class InOtherThread {
 public:
  explicit InOtherThread(TFE_Context* context) : context_(context), own_(TFE_ContextGetExecutorForThread(context)) {
    // Never deleted: while the process exits, an op may still wait for another rank.
    static TFE_Executor* const asynchronous = TFE_NewExecutor(/*is_async=*/true, /*enable_streaming_enqueue=*/false, /*in_flight_nodes_limit=*/0);
    TFE_ContextSetExecutorForThread(context_, asynchronous);
  }
  ~InOtherThread() { TFE_ContextSetExecutorForThread(context_, own_.get()); }
  InOtherThread(const InOtherThread&) = delete;

 private:
  TFE_Context* const context_;
  const Executor own_;
};

// Starts a copy of the op: an op runs where it was created.
TFE_TensorHandle* Start(const TFE_Op* op, const char* name, TF_Status* status) {
  TFE_Context* context = TFE_OpGetContext(op, status);
  if (Failed(status)) return nullptr;
  const InOtherThread scope(context);
  const Op copy(TFE_NewOp(context, name, status));
  for (int i = 0, inputs = TFE_OpGetFlatInputCount(op, status); i < inputs && !Failed(status); i++) {
    TFE_OpAddInput(copy.get(), TFE_OpGetFlatInput(op, i, status), status);
  }
  if (Failed(status)) return nullptr;
  TFE_OpAddAttrs(copy.get(), TFE_OpGetAttrs(op));
  TFE_TensorHandle* output = nullptr;
  int count = 1;
  __real_TFE_Execute(copy.get(), &output, &count, status);
  if (Failed(status)) return nullptr;
  // A float32 represents integers below this exactly.
  constexpr int kNumbers = 1 << 24;
  static int last = 0;
  last = (last + 1) % kNumbers;
  pending[last] = output;
  const Tensor number(TF_AllocateTensor(TF_FLOAT, nullptr, 0, sizeof(float)));
  *static_cast<float*>(TF_TensorData(number.get())) = static_cast<float>(last);
  return TFE_NewTensorHandle(number.get(), status);
}

TFE_TensorHandle* Await(const TFE_Op* op, TF_Status* status) {
  TFE_TensorHandle* input = TFE_OpGetFlatInput(op, 0, status);
  if (Failed(status)) return nullptr;
  const Tensor number(TFE_TensorHandleResolve(input, status));
  if (Failed(status)) return nullptr;
  const auto found = pending.find(static_cast<int>(*static_cast<float*>(TF_TensorData(number.get()))));
  if (found == pending.end()) {
    TF_SetStatus(status, TF_INVALID_ARGUMENT, "no pending collective op has this number");
    return nullptr;
  }
  TFE_TensorHandle* output = found->second;
  pending.erase(found);
  // Waits for the op, and returns its error.
  TFE_TensorHandleNumElements(output, status);
  if (!Failed(status)) return output;
  TFE_DeleteTensorHandle(output);
  return nullptr;
}

__attribute__((constructor)) void RegisterAwait() {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(kAwait);
  TF_OpDefinitionBuilderAddInput(op, "number: float");
  TF_OpDefinitionBuilderAddOutput(op, "output: float");
  TF_OpDefinitionBuilderSetIsStateful(op, true);
  TF_Status* status = TF_NewStatus();
  TF_RegisterOpDefinition(op, status);
  TF_DeleteStatus(status);
}

}  // namespace

extern "C" void __wrap_TFE_Execute(TFE_Op* op, TFE_TensorHandle** outputs, int* count, TF_Status* status) {
  const char* name = TFE_OpGetName(op, status);
  if (std::strcmp(name, "CollectiveGatherV2") == 0 || std::strcmp(name, "CollectiveReduceV2") == 0) {
    outputs[0] = Start(op, name, status);
  } else if (std::strcmp(name, kAwait) == 0) {
    outputs[0] = Await(op, status);
  } else {
    __real_TFE_Execute(op, outputs, count, status);
  }
}
