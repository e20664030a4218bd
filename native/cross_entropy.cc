// The sigmoid cross entropy and its gradient, each in one pass over memory instead of TensorFlow's four and three.
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "softmax.h"

namespace nextvlad {
namespace {

// The inputs of both kernels: logits and labels [videos, classes]; the mask, of the same shape, or [] for all ones.
struct Inputs {
  explicit Inputs(Call& call) : shape(call.Expect(0, {Call::kAny, Call::kAny})), logits(call.Input<float>(0)), labels(call.Input<float>(1)) {
    call.Expect(1, shape);
    if (call.Shape(2).empty()) return;
    call.Expect(2, shape);
    mask = call.Input<float>(2);
  }
  std::vector<int64_t> shape;
  const float *logits, *labels;
  const float* mask = nullptr;
};

// Output: the sum of mask (log(1 + e^logit) - logit label) []. Each video is summed on one thread, so the result does not depend on the number of threads.
void CrossEntropy(Call& call) {
  const Inputs in(call);
  const int64_t videos = in.shape[0], classes = in.shape[1];
  std::vector<double> sums(videos);
  ParallelFor(videos, [&](int64_t begin, int64_t end, int) {
    for (int64_t video = begin; video < end; video++) {
      const float *l = in.logits + video * classes, *y = in.labels + video * classes, *mask = in.mask == nullptr ? nullptr : in.mask + video * classes;
      double sum = 0;
      if (mask == nullptr) {
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < classes; c++) sum += Softplus(l[c]) - l[c] * y[c];
      } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < classes; c++) sum += mask[c] * (Softplus(l[c]) - l[c] * y[c]);
      }
      sums[video] = sum;
    }
  });
  double total = 0;
  for (double sum : sums) total += sum;
  *call.Output(0, {}) = static_cast<float>(total);
}

// Output: mask (sigmoid(logit) - label) / videos [videos, classes].
void CrossEntropyGradient(Call& call) {
  const Inputs in(call);
  float* d = call.Output(0, in.shape);
  const float factor = 1.0f / in.shape[0];
  ForValues(in.shape[0] * in.shape[1], [&in, d, factor](int64_t begin, int64_t end) {
    const float *l = in.logits, *y = in.labels, *mask = in.mask;
    if (mask == nullptr) {
#pragma omp simd
      for (int64_t i = begin; i < end; i++) d[i] = (FastSigmoid(l[i]) - y[i]) * factor;
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; i++) d[i] = mask[i] * (FastSigmoid(l[i]) - y[i]) * factor;
    }
  });
}

}  // namespace

std::string RegisterCrossEntropy() {
  const Names inputs = {"logits: float", "labels: float", "mask: float"};
  const std::string problem = Register<CrossEntropy>("NextvladCrossEntropy", inputs, {"sum: float"});
  return problem.empty() ? Register<CrossEntropyGradient>("NextvladCrossEntropyGradient", inputs, {"gradient: float"}) : problem;
}

}  // namespace nextvlad
