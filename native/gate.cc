// Context gating's product h sigmoid(e) and its gradients, each in one pass over memory instead of TensorFlow's two; and the sigmoid alone.
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

// Inputs: dy, h and sigmoid(e), of the same shape. Output of that shape: de.
void GateGradient(Call& call) {
  const auto shape = call.Shape(0);
  for (int i = 1; i <= 2; i++) call.Expect(i, shape);
  const float *dy = call.Input<float>(0), *h = call.Input<float>(1), *gates = call.Input<float>(2);
  float* de = call.Output(0, shape);
  ForValues(call.Count(0), [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) de[i] = dy[i] * h[i] * gates[i] * (1 - gates[i]);
  });
}

// Inputs: dy, sigmoid(e), and the part of dh that passes through e, of the same shape. Output of that shape: dh.
void GateInputGradient(Call& call) {
  const auto shape = call.Shape(0);
  for (int i = 1; i <= 2; i++) call.Expect(i, shape);
  const float *dy = call.Input<float>(0), *gates = call.Input<float>(1), *through_e = call.Input<float>(2);
  float* dh = call.Output(0, shape);
  ForValues(call.Count(0), [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) dh[i] = dy[i] * gates[i] + through_e[i];
  });
}

}  // namespace

std::string RegisterGate() {
  std::string problem = Register<SigmoidOf>("NextvladSigmoid", {"x: float"}, {"y: float"});
  if (problem.empty()) problem = Register<Gate>("NextvladGate", {"h: float", "e: float"}, {"y: float", "gates: float"});
  if (problem.empty()) problem = Register<GateGradient>("NextvladGateGradient", {"dy: float", "h: float", "gates: float"}, {"de: float"});
  return problem.empty() ? Register<GateInputGradient>("NextvladGateInputGradient", {"dy: float", "gates: float", "through_e: float"}, {"dh: float"}) : problem;
}

}  // namespace nextvlad
