/**
 * The gradient of the loss, with the on-the-fly distillation of MixNeXtVLAD (Lin, Xiao, Fan: arXiv:1811.05014; Lan, Zhu, Gong: "Knowledge Distillation by
 * On-the-Fly Native Ensemble", arXiv:1806.04606). For the logits z of the mixture and z_m of its branches, averaged over videos:
 *
 *   loss = CE(z) + sum_m CE(z_m) + T^2 sum_m KL(p, p_m)     with p = softmax(z / T), p_m = softmax(z_m / T) over the classes
 *
 * CE is the sigmoid cross entropy summed over classes. As in the authors' code, the gradient of KL also passes through p.
 */
import { add, addAll, logSoftmax, multiply, softmax, subtract, sum } from "../kernels/tensorflow-ops.js";
import type { Kernels } from "../kernels/types.js";
import { constant } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/tensor.js";

/**
 * Returns the gradients of the loss with respect to a network's logits `[videos, classes]`: those of the mixture and then of its branches, or those of a
 * network without branches, whose loss is CE. `mask`: of CE. Borrows the tensors.
 */
export function lossGradients(
  logits: readonly Tensor[],
  labels: Tensor,
  temperature: number,
  { crossEntropyGradient }: Pick<Kernels, "crossEntropyGradient">,
  mask: Tensor | null = null,
): readonly Tensor[] {
  return tidy(() => {
    const ofLabels = logits.map((z) => crossEntropyGradient(z, labels, mask));
    if (logits.length === 1) return ofLabels;
    const ofDistillation = distillationGradients(logits, temperature);
    return ofLabels.map((gradient, i) => add(gradient, ofDistillation[i] as Tensor));
  });
}

/** Returns the gradients of T^2 sum_m KL(p, p_m), averaged over videos: T (p_m - p) for z_m, and T sum_m p (log p - log p_m - KL(p, p_m)) for z. */
function distillationGradients([mixture, ...branches]: readonly Tensor[], temperature: number): readonly Tensor[] {
  const factor = constant(temperature / ((mixture as Tensor).shape[0] as number));
  const cooled = (z: Tensor): Tensor => multiply(z, constant(1 / temperature));
  const [p, logP] = [softmax(cooled(mixture as Tensor)), logSoftmax(cooled(mixture as Tensor))];
  const ofMixture = branches.map((z) => {
    const logRatio = subtract(logP, logSoftmax(cooled(z)));
    return multiply(p, subtract(logRatio, sum(multiply(p, logRatio), [1], true)));
  });
  return [addAll(ofMixture), ...branches.map((z) => subtract(softmax(cooled(z)), p))].map((gradient) => multiply(gradient, factor));
}
