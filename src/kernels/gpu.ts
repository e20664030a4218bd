import { release, tidy } from "../runtime/tensor.js";
import { batchNormOnePass, dequantizeOnePass, descriptorOnePass, softAssignFrozenOnePass, softAssignOnePass } from "./cpu.js";
import { moments, padFrames, unpadFrames } from "./native-ops.js";
import { floatFeaturesOf, freezeWithFloats, REFERENCE } from "./reference.js";
import { batchMatMul } from "./tensorflow-ops.js";
import type { Kernels } from "./types.js";

/** The GPU's kernels: frames padded to a rectangle, so that one product serves all videos, and one kernel (native/gpu/) for each chain of small ops. */
export const GPU_KERNELS: Kernels = {
  ...REFERENCE,
  dequantize: dequantizeOnePass,
  features: floatFeaturesOf({ ...REFERENCE, dequantize: dequantizeOnePass }),
  moments,
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
  descriptor: descriptorOnePass,
  batchNorm: batchNormOnePass,
  freezeNextvlad: (weights, precision) => freezeWithFloats(GPU_KERNELS, weights, precision),
};
