import { release, tidy } from "../runtime/runtime.js";
import { dequantizeOnePass, softAssignFrozenOnePass, softAssignOnePass } from "./cpu.js";
import { batchNorm, batchNormGradient, descriptor, descriptorGradient, padFrames, unpadFrames } from "./native-ops.js";
import { floatFeaturesOf, freezeWithFloats, L2_EPSILON, REFERENCE } from "./reference.js";
import { batchMatMul } from "./tensorflow-ops.js";
import type { Kernels } from "./types.js";

/** The GPU's kernels: frames padded to a rectangle, so that one product serves all videos, and one kernel (native/gpu/) for each chain of small ops. */
export const GPU_KERNELS: Kernels = {
  ...REFERENCE,
  dequantize: dequantizeOnePass,
  features: floatFeaturesOf(dequantizeOnePass),
  softAssign: softAssignOnePass,
  softAssignFrozen: softAssignFrozenOnePass,
  vladSums: (assignment, x1, { frameCounts }, groups) => {
    const x = tidy(() => padFrames(x1, frameCounts, groups));
    x1.dispose();
    return {
      sums: batchMatMul(x, assignment, { transposeA: true }),
      backward: (dSums) => {
        const gradients = tidy(() => ({
          assignment: batchMatMul(x, dSums),
          x1: unpadFrames(batchMatMul(assignment, dSums, { transposeB: true }), frameCounts),
        }));
        release(x, dSums);
        return gradients;
      },
      dispose: () => x.dispose(),
    };
  },
  descriptor: (sums, aSum, bias, centers) => {
    const { unit, inverse } = descriptor(sums, aSum, bias, centers, L2_EPSILON);
    sums.dispose();
    // The batch norm that follows takes ownership of y.
    const kept = unit.clone();
    return {
      y: unit,
      backward: (dy, b, c) => {
        const gradients = descriptorGradient(dy, { unit: kept, inverse }, aSum, b, c);
        release(dy, kept, inverse);
        return gradients;
      },
    };
  },
  batchNorm: (x, norm, epsilon) => {
    const { y, mean, variance, inverse } = batchNorm(x, norm, epsilon);
    return {
      y,
      mean,
      variance,
      backward: (dy, scale) => {
        const gradients = batchNormGradient(dy, x, scale, mean, inverse);
        release(dy, x, mean, variance, inverse);
        return gradients;
      },
    };
  },
  freezeNextvlad: (weights, precision) => freezeWithFloats(GPU_KERNELS, weights, precision),
};
