// Context gating's product h sigmoid(e) and its gradient, each in one pass over memory instead of TensorFlow's two and three; and the sigmoid alone.
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "softmax.h"

namespace nextvlad {
namespace {

// Input: x of any shape. Output: sigmoid(x).
void SigmoidOf(Call& call) {
  const float* x = call.Input<float>(0);
  float* y = call.Output(0, call.Shape(0));
  ForValues(call.Count(0), [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) y[i] = Sigmoid(x[i]);
  });
}

// Inputs: h and e, of the same shape. Outputs of that shape: h sigmoid(e), and sigmoid(e).
void Gate(Call& call) {
  const auto shape = call.Shape(0);
  call.Expect(1, shape);
  const float *h = call.Input<float>(0), *e = call.Input<float>(1);
  float *y = call.Output(0, shape), *gates = call.Output(1, shape);
  ForValues(call.Count(0), [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
      gates[i] = Sigmoid(e[i]);
      y[i] = h[i] * gates[i];
    }
  });
}

// Inputs: dy, h and sigmoid(e), of the same shape. Outputs of that shape: dh, without the part through e, and de.
void GateGradient(Call& call) {
  const auto shape = call.Shape(0);
  for (int i = 1; i <= 2; i++) call.Expect(i, shape);
  const float *dy = call.Input<float>(0), *h = call.Input<float>(1), *gates = call.Input<float>(2);
  float *dh = call.Output(0, shape), *de = call.Output(1, shape);
  ForValues(call.Count(0), [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
      const float gate = gates[i], d = dy[i];
      dh[i] = d * gate;
      de[i] = d * h[i] * gate * (1 - gate);
    }
  });
}

}  // namespace

std::string RegisterGate() {
  std::string problem = Register<SigmoidOf>("NextvladSigmoid", {"x: float"}, {"y: float"});
  if (problem.empty()) problem = Register<Gate>("NextvladGate", {"h: float", "e: float"}, {"y: float", "gates: float"});
  return problem.empty() ? Register<GateGradient>("NextvladGateGradient", {"dy: float", "h: float", "gates: float"}, {"dh: float", "de: float"}) : problem;
}

}  // namespace nextvlad
