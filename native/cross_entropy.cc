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
  // Calls body(factor), in which factor(i) is the mask's value of element i.
  template <class Body>
  void WithMask(const Body& body) const {
    if (mask == nullptr) {
      body([](int64_t) { return 1.0f; });
    } else {
      body([m = mask](int64_t i) { return m[i]; });
    }
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
  in.WithMask([&](const auto& factor) {
    ParallelFor(videos, [&](int64_t begin, int64_t end, int) {
      for (int64_t video = begin; video < end; video++) {
        const float *l = in.logits, *y = in.labels;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = video * classes; i < (video + 1) * classes; i++) sum += factor(i) * (Softplus(l[i]) - l[i] * y[i]);
        sums[video] = sum;
      }
    });
  });
  double total = 0;
  for (double sum : sums) total += sum;
  *call.Output(0, {}) = static_cast<float>(total);
}

// Output: mask (sigmoid(logit) - label) / videos [videos, classes].
void CrossEntropyGradient(Call& call) {
  const Inputs in(call);
  float* d = call.Output(0, in.shape);
  const float per_video = 1.0f / in.shape[0];
  in.WithMask([&](const auto& factor) {
    ForValues(in.shape[0] * in.shape[1], [&, l = in.logits, y = in.labels](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; i++) d[i] = factor(i) * (Sigmoid(l[i]) - y[i]) * per_video;
    });
  });
}

}  // namespace

std::string RegisterCrossEntropy() {
  const Names inputs = {"logits: float", "labels: float", "mask: float"};
  const std::string problem = Register<CrossEntropy>("NextvladCrossEntropy", inputs, {"sum: float"});
  return problem.empty() ? Register<CrossEntropyGradient>("NextvladCrossEntropyGradient", inputs, {"gradient: float"}) : problem;
}

}  // namespace nextvlad
