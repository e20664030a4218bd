// Part of the binding: tensors that share the memory of a typed array. The binding passes TensorFlow a function that releases the array, which may only run in
// JavaScript's thread. But the thread of the collective ops (collectives.cc) may be the last to use such a tensor: without this file, training with two ranks
// crashed or computed NaN about once in 2,000 steps. The linker's --wrap=TF_NewTensor makes the binding call the function below.
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "tensorflow/c/tf_tensor.h"

using Release = void (*)(void* data, size_t bytes, void* argument);

extern "C" TF_Tensor* __real_TF_NewTensor(TF_DataType type, const int64_t* shape, int dimensions, void* data, size_t bytes, Release release, void* argument);

namespace {

struct SharedArray {
  void* data;
  size_t bytes;
  Release release;
  void* argument;
  std::thread::id javascript;
};

void ReleaseArray(const SharedArray& array) { array.release(array.data, array.bytes, array.argument); }

std::mutex mutex;
// The arrays that another thread was the last to use. Never deleted: TensorFlow's threads still run while the process exits.
std::vector<SharedArray>* const unused = new std::vector<SharedArray>;

// What TensorFlow calls, in any thread, when the last tensor that shares the array is deleted.
void EndSharing(void*, size_t, void* argument) {
  SharedArray* array = static_cast<SharedArray*>(argument);
  if (std::this_thread::get_id() == array->javascript) {
    ReleaseArray(*array);
  } else {
    std::lock_guard<std::mutex> lock(mutex);
    unused->push_back(*array);
  }
  delete array;
}

void ReleaseUnused() {
  std::vector<SharedArray> arrays;
  {
    std::lock_guard<std::mutex> lock(mutex);
    arrays.swap(*unused);
  }
  for (const SharedArray& array : arrays) ReleaseArray(array);
}

}  // namespace

extern "C" TF_Tensor* __wrap_TF_NewTensor(TF_DataType type, const int64_t* shape, int dimensions, void* data, size_t bytes, Release release, void* argument) {
  ReleaseUnused();
  SharedArray* array = new SharedArray{data, bytes, release, argument, std::this_thread::get_id()};
  return __real_TF_NewTensor(type, shape, dimensions, data, bytes, EndSharing, array);
}
