import { fill } from "../runtime/constants.js";
import { keep, release, type Tensor, tidy } from "../runtime/tensor.js";
import { byteCarrier } from "../runtime/transfer.js";
import {
  batchNorm,
  batchNormGradient,
  crossEntropy,
  crossEntropyGradient,
  dequantize,
  describeByteFrames,
  descriptor,
  descriptorGradient,
  FLOAT_TERMS,
  gate,
  gateGradient,
  gateInputGradient,
  logitsGradient,
  maskValues,
  moments,
  multiplyBytes,
  multiplyBytesTransposed,
  multiplyFewRows,
  multiplyFrozen,
  multiplyMatrices,
  packDense,
  sigmoidOnePass,
  softAssign,
  softAssignFrozen,
  softAssignGradient,
  splitWeights,
  sumFrames,
  sumFramesGradient,
  type Terms,
} from "./native-ops.js";
import { floatFeaturesOf, freezeDenseWith, L2_EPSILON, REFERENCE } from "./reference.js";
import { type MatMulOptions, multiply, transpose } from "./tensorflow-ops.js";
import type { Features, FrozenAggregator, Kernels, NextvladWeights, Precision, Quantization } from "./types.js";

/** A product of matrices `[rows, terms]` and `[terms, columns]`, in memory or transposed. */
export interface ProductSize extends MatMulOptions {
  readonly rows: number;
  readonly terms: number;
  readonly columns: number;
}

/** Implementations of a product of matrices. */
export const PRODUCTS = {
  /** Reads the right factor row by row; it must not be transposed. */
  rows: (a: Tensor, b: Tensor) => multiplyFewRows(a, b),
  /** Copies the right factor to panels first, and the left one if it is transposed. */
  panels: multiplyMatrices,
  tensorflow: REFERENCE.matMul,
} as const;

/** Selects our kernels instead of TensorFlow's, by size. */
export interface CpuChoice {
  /** Products of the features' bytes in training, where the weights' panels are computed in each step, for a batch of `frames` frames. */
  readonly bytesInTraining: (frames: number) => boolean;
  readonly matMul: (size: ProductSize) => keyof typeof PRODUCTS;
  /** Minimum rows of a product with frozen weights `[terms, columns]` that are copied to panels once; infinite if they are not copied. */
  readonly minPackedRows: (terms: number, columns: number) => number;
}

/** Number of terms of each precision; the CPU has no tf32. */
const TERMS: Readonly<Record<Precision, Terms>> = { float32: FLOAT_TERMS, tf32: FLOAT_TERMS, int16: 2, int8: 1 };

/** Returns the CPU's kernels: ours in native/ if `choice` selects them, else TensorFlow's. */
export function cpuKernels(choice: CpuChoice): Kernels {
  const matMul: Kernels["matMul"] = (a, b, options = {}) => PRODUCTS[choice.matMul(productSize(a, b, options))](a, b, options);
  const floatFeatures = floatFeaturesOf({ dequantize: dequantizeOnePass, matMul });
  return {
    ...REFERENCE,
    dequantize: dequantizeOnePass,
    features: (bytes, frames, quantization) =>
      choice.bytesInTraining(frames) ? byteFeatures(bytes, frames, quantization) : floatFeatures(bytes, frames, quantization),
    moments,
    softAssign: softAssignOnePass,
    softAssignFrozen: softAssignFrozenOnePass,
    vladSums: sumInOneKernel,
    descriptor: descriptorOnePass,
    batchNorm: batchNormOnePass,
    dropout: dropoutWithoutMask,
    sigmoid: sigmoidOnePass,
    gate: gateOnePass,
    crossEntropy,
    crossEntropyGradient,
    matMul,
    denseWithAdam: (x, dy, { w, m, v }, ...rest) => w.applyProductAdam(m, v, x, dy, ...rest),
    freezeNextvlad: (weights, precision) => freezeWithBytes(weights, TERMS[precision]),
    freezeDense: freezeInPanels(choice, freezeDenseWith(matMul)),
  };
}

function productSize(a: Tensor, b: Tensor, options: MatMulOptions): ProductSize {
  const [rows, terms] = (options.transposeA ? [...a.shape].reverse() : a.shape) as [number, number];
  const [, columns] = (options.transposeB ? [...b.shape].reverse() : b.shape) as [number, number];
  return { rows, terms, columns, ...options };
}

/** Shared with the GPU. */
export const dequantizeOnePass: Kernels["dequantize"] = (bytes, frames, quantization) =>
  tidy(() => dequantize(bytes, frames, quantization));

/** Features that stay bytes: a quarter of the memory of floats, and with byte instructions products of float precision at 3/4 of the cost. */
function byteFeatures(bytes: Uint8Array, frames: number, quantization: Quantization): Features {
  const carrier = byteCarrier(bytes, frames * (quantization.scale.shape[0] as number));
  return {
    times: (w, bias) =>
      tidy(() => multiplyBytes(carrier, frames, splitWeights(w, bias ?? fill([w.shape[1] as number], 0), quantization, 1, FLOAT_TERMS))),
    transposedTimes: (d) => multiplyBytesTransposed(carrier, d, quantization),
    dispose: () => release(carrier, ...Object.values(quantization)),
  };
}

/** Shared with the GPU, where the assignment is padded. */
export const softAssignOnePass: Kernels["softAssign"] = (z, alpha, moments, norm, { frameCounts }, epsilon) => {
  const forward = tidy(() => softAssign(z, alpha, moments, norm, frameCounts, epsilon));
  alpha.dispose();
  return {
    ...forward,
    backward: (dAssignment, dASum) => {
      const { normalized, ...gradients } = tidy(() => softAssignGradient(dAssignment, dASum, z, forward, frameCounts));
      const { assignment, aSum, attention, mean, variance, inverse } = forward;
      release(dAssignment, dASum, assignment, aSum, attention);
      return {
        ...gradients,
        z: (scale, total, frames) => {
          const dz = tidy(() => logitsGradient(normalized, z, forward, scale, total, frames));
          release(normalized, z, mean, variance, inverse);
          return dz;
        },
      };
    },
  };
};

/** Shared with the GPU, where the assignment is padded. */
export const softAssignFrozenOnePass: Kernels["softAssignFrozen"] = (z, alpha, norm, { frameCounts }) => {
  const result = tidy(() => softAssignFrozen(z, alpha, norm, frameCounts));
  release(z, alpha);
  return result;
};

/** Shared with the GPU. */
export const descriptorOnePass: Kernels["descriptor"] = (sums, aSum, bias, centers) => {
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
};

/** Shared with the GPU. */
export const batchNormOnePass: Kernels["batchNorm"] = (x, norm, epsilon) => {
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
};

/** The mask is generated again in the backward pass. */
const dropoutWithoutMask: Kernels["dropout"] = (x, rate, seed) => {
  const masked = (values: Tensor): Tensor => {
    const y = tidy(() => maskValues(values, rate, seed));
    values.dispose();
    return y;
  };
  return { y: masked(x), backward: masked };
};

const gateOnePass: Kernels["gate"] = (h, e) => {
  const { y, gates } = gate(h, e);
  e.dispose();
  return {
    y,
    backward: (dy) => {
      const de = gateGradient(dy, h, gates);
      h.dispose();
      return {
        e: de,
        h: (throughE) => {
          const dh = gateInputGradient(dy, gates, throughE);
          release(dy, gates, throughE);
          return dh;
        },
      };
    },
  };
};

/** All videos in one kernel. */
const sumInOneKernel: Kernels["vladSums"] = (assignment, x1, { frameCounts }) => {
  return {
    sums: tidy(() => sumFrames(x1, assignment, frameCounts)),
    backward: (dSums) => {
      const gradients = tidy(() => sumFramesGradient(dSums, x1, assignment, frameCounts));
      release(x1, dSums);
      return gradients;
    },
    dispose: () => x1.dispose(),
  };
};

/** Copies the weights to panels, for the numbers of rows at which `choice` prefers them to `inPlace`. */
function freezeInPanels({ minPackedRows }: CpuChoice, inPlace: Kernels["freezeDense"]): Kernels["freezeDense"] {
  return (w, affine) => {
    const [terms, columns] = w.shape as [number, number];
    const minRows = minPackedRows(terms, columns);
    const unpacked = inPlace(w, affine);
    if (minRows === Number.POSITIVE_INFINITY) return unpacked;
    const { scale, shift } = affine;
    const packed = tidy(() => ({
      panels: w.use((value) => packDense(scale === undefined ? value : multiply(value, scale))),
      shift: shift?.clone() ?? fill([columns], 0),
    }));
    const owned = Object.values(packed).map(keep);
    return {
      apply: (x, activation = "linear") =>
        (x.shape[0] as number) < minRows
          ? unpacked.apply(x, activation)
          : tidy(() => multiplyFrozen(x, packed.panels, packed.shift, activation)),
      dispose: () => {
        unpacked.dispose();
        release(...owned);
      },
    };
  };
}

/** Computes everything from bytes to the descriptors in one kernel. `terms` sets the precision of the weights. */
function freezeWithBytes(weights: NextvladWeights, terms: Terms): FrozenAggregator {
  const { groups, quantization, foldedClusters, clusterNorm, foldedAttention, foldedAttentionBias } = weights;
  const { expansion, expansionBias, centers, descriptorNorm: norm } = weights;
  const panels = tidy(() => ({
    clusters: splitWeights(multiply(foldedClusters, clusterNorm.scale), clusterNorm.shift, quantization, groups, terms),
    attention: splitWeights(foldedAttention, foldedAttentionBias, quantization, 1, terms),
    expansion: expansion.use((w) => expansionBias.use((b) => splitWeights(w, b, quantization, groups, terms))),
  }));
  const descriptor = { centers: centers.use((c) => transpose(c, [1, 0])), norm, epsilon: L2_EPSILON };
  const splits = [panels.clusters, panels.attention, panels.expansion].map((split) => split.panels);
  const kept = [...splits, descriptor.centers, norm.scale, norm.shift].map(keep);
  release(...Object.values(quantization), foldedClusters, ...Object.values(clusterNorm), foldedAttention, foldedAttentionBias);
  return {
    aggregate: (bytes, { frameCounts }) => tidy(() => describeByteFrames(bytes, frameCounts, panels, descriptor)),
    dispose: () => release(...kept),
  };
}
