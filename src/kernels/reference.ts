import { NextvladError } from "../base/errors.js";
import { constant, fill } from "../runtime/constants.js";
import { keep, release, type Tensor, tidy } from "../runtime/tensor.js";
import { scalar } from "../runtime/transfer.js";
import type { RaggedLayout } from "./ragged.js";
import {
  add,
  addBias,
  batchNormGradient,
  batchNormWithStatistics,
  concat,
  divideNoNan,
  fromBytes,
  gatherRows,
  matMul,
  multiply,
  negate,
  relu,
  reshape,
  rsqrt,
  segmentSum,
  sigmoid,
  sigmoidGradient,
  slice,
  softmax,
  softplus,
  square,
  stack,
  statelessUniform,
  stepAt,
  subtract,
  sum,
  transpose,
} from "./tensorflow-ops.js";
import type { FrozenAggregator, Kernels, NextvladWeights, Precision } from "./types.js";

/** Keeps an empty cluster's descriptor finite: x / sqrt(sum of x^2 + L2_EPSILON). */
export const L2_EPSILON = 1e-12;

/** All computations in TensorFlow's own ops: the definition that the other implementations are tested against. Also used where no faster one is available. */
export const REFERENCE: Kernels = {
  dequantize,
  features: floatFeaturesOf({ dequantize, matMul }),
  moments,
  softAssign,
  softAssignFrozen,
  vladSums: sumEachVideo,
  descriptor,
  batchNorm,
  dropout,
  sigmoid,
  gate,
  crossEntropy,
  crossEntropyGradient,
  matMul,
  denseWithAdam,
  freezeNextvlad: (weights, precision) => freezeWithFloats(REFERENCE, weights, precision),
  freezeDense: freezeDenseWith(matMul),
};

function dequantize(...[bytes, frames, { scale, offset }]: Parameters<Kernels["dequantize"]>): Tensor {
  return tidy(() => add(multiply(fromBytes(bytes, frames, scale.shape[0] as number), scale), offset));
}

/** Returns the `features` kernel that dequantizes to floats first. */
export function floatFeaturesOf({ dequantize, matMul }: Pick<Kernels, "dequantize" | "matMul">): Kernels["features"] {
  return (bytes, frames, quantization) => {
    const x = dequantize(bytes, frames, quantization);
    release(...Object.values(quantization));
    return {
      times: (w, bias) => (bias === undefined ? matMul(x, w) : tidy(() => addBias(matMul(x, w), bias))),
      transposedTimes: (d) => matMul(x, d, { transposeA: true }),
      dispose: () => x.dispose(),
    };
  };
}

function moments(z: Tensor): Tensor {
  const [frames, columns] = z.shape as [number, number];
  return tidy(() => {
    const mean = multiply(sum(z, [0]), scalar(1 / frames));
    const squares = sum(square(subtract(z, mean)), [0]);
    return packMoments(fill([columns], frames), mean, squares);
  });
}

/** Returns moments `[1, columns, 3]` of a number of rows, their mean and the sum of squared differences from it, `[columns]` each. */
function packMoments(rows: Tensor, mean: Tensor, squares: Tensor): Tensor {
  return reshape(transpose(stack([rows, mean, squares]), [1, 0]), [1, -1, 3]);
}

/** Merges moments `[parts, columns, 3]` to those of all parts `[1, columns, 3]`. */
export function joinMoments(moments: Tensor): Tensor {
  if (moments.shape[0] === 1) return moments;
  const joined = tidy(() => {
    const { mean, variance, total } = mergeMoments(moments);
    return packMoments(total, mean, multiply(variance, total));
  });
  moments.dispose();
  return joined;
}

/** Returns the number of rows, the mean and the biased variance `[columns]` of moments `[parts, columns, 3]` (Chan, Golub and LeVeque 1979). */
function mergeMoments(parts: Tensor): { readonly total: Tensor; readonly mean: Tensor; readonly variance: Tensor } {
  const [count, columns] = parts.shape as [number, number, number];
  return tidy(() => {
    const [frames, means, squares] = [0, 1, 2].map((i) => reshape(slice(parts, [0, 0, i], [count, columns, 1]), [count, columns])) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const total = sum(frames, [0]);
    const mean = divideNoNan(sum(multiply(frames, means), [0]), total);
    const between = multiply(frames, square(subtract(means, mean)));
    return { total, mean, variance: divideNoNan(sum(add(squares, between), [0]), total) };
  });
}

function softAssign(...[z, alpha, moments, norm, layout, epsilon]: Parameters<Kernels["softAssign"]>): ReturnType<Kernels["softAssign"]> {
  const [frames, groups] = alpha.shape as [number, number];
  const clusters = (z.shape[1] as number) / groups;
  const rows = frames * groups;
  const { total: rowCounts, mean, variance } = mergeMoments(moments);
  rowCounts.dispose();
  const inverse = tidy(() => rsqrt(add(variance, constant(epsilon))));
  /** z with mean 0 and variance 1. */
  const standardize = (): Tensor => multiply(subtract(z, mean), inverse);
  const attention = sigmoid(alpha);
  const assignment = tidy(() => {
    const normalized = addBias(multiply(standardize(), norm.scale), norm.shift);
    return multiply(softmax(reshape(normalized, [rows, clusters])), reshape(attention, [rows, 1]));
  });
  alpha.dispose();
  const aSum = sumOverFrames(assignment, layout);
  return {
    assignment,
    aSum,
    mean,
    variance,
    // With a = softmax(y) s, s = sigmoid(alpha), and r = sum_k(da softmax(y)) = sum_k(da a) / s: dy = a (da - r) and ds = r.
    backward: (dAssignment, dASum) => {
      const [dNormalized, dAlpha] = tidy(() => {
        const throughASum = reshape(gatherRows(dASum, layout.segments()), [rows, clusters]);
        const weighted = multiply(add(dAssignment, throughASum), assignment);
        const dAttention = divideNoNan(sum(weighted, [1], true), reshape(attention, [rows, 1]));
        const dLogits = subtract(weighted, multiply(assignment, dAttention));
        return [reshape(dLogits, [frames, groups * clusters]), sigmoidGradient(attention, reshape(dAttention, [frames, groups]))];
      }) as [Tensor, Tensor];
      release(dAssignment, dASum, assignment, aSum, attention);
      return {
        alpha: dAlpha,
        scale: tidy(() => sum(multiply(dNormalized, standardize()), [0])),
        shift: tidy(() => sum(dNormalized, [0])),
        z: (scale, total, frames) => {
          const dz = tidy(() => {
            const perFrame = scalar(1 / frames);
            const along = multiply(standardize(), multiply(total.scale, perFrame));
            return multiply(subtract(subtract(dNormalized, multiply(total.shift, perFrame)), along), multiply(scale, inverse));
          });
          release(dNormalized, z, mean, variance, inverse);
          return dz;
        },
      };
    },
  };
}

function softAssignFrozen(
  ...[z, alpha, { scale, shift }, layout]: Parameters<Kernels["softAssignFrozen"]>
): ReturnType<Kernels["softAssignFrozen"]> {
  const [frames, groups] = alpha.shape as [number, number];
  const clusters = (z.shape[1] as number) / groups;
  const result = tidy(() => {
    const shares = softmax(reshape(addBias(multiply(z, scale), shift), [frames * groups, clusters]));
    const assignment = multiply(shares, reshape(sigmoid(alpha), [frames * groups, 1]));
    return { assignment, aSum: sumOverFrames(assignment, layout) };
  });
  release(z, alpha);
  return result;
}

/** `[frames G, K]` to `[videos, G K]`. */
function sumOverFrames(assignment: Tensor, layout: RaggedLayout): Tensor {
  return tidy(() => segmentSum(reshape(assignment, [layout.frames, -1]), layout.segments()));
}

/** One product per video: x1^T a over its frames and groups. */
function sumEachVideo(...[assignment, x1, layout, groups]: Parameters<Kernels["vladSums"]>): ReturnType<Kernels["vladSums"]> {
  const groupSize = (x1.shape[1] as number) / groups;
  const clusters = assignment.shape[1] as number;
  const rows = (): Tensor => reshape(x1, [layout.frames * groups, groupSize]);
  const sums = tidy(() => {
    const groupRows = rows();
    const products: Tensor[] = [];
    for (let video = 0; video < layout.videos; video++) {
      const x = layout.rowsOf(groupRows, video, groups);
      const a = layout.rowsOf(assignment, video, groups);
      products.push(matMul(x, a, { transposeA: true }));
      release(x, a);
    }
    return stack(products);
  });
  return {
    sums,
    // dx1 = a dS^T, and da = x1 dS.
    backward: (dSums) => {
      const gradients = tidy(() => {
        const groupRows = rows();
        const dAssignments: Tensor[] = [];
        const dX1s: Tensor[] = [];
        for (let video = 0; video < layout.videos; video++) {
          const [da, dx] = tidy(() => {
            const ds = reshape(slice(dSums, [video, 0, 0], [1, groupSize, clusters]), [groupSize, clusters]);
            const da = matMul(layout.rowsOf(groupRows, video, groups), ds);
            return [da, matMul(layout.rowsOf(assignment, video, groups), ds, { transposeB: true })];
          }) as [Tensor, Tensor];
          dAssignments.push(da);
          dX1s.push(dx);
        }
        const joined = concat(dAssignments, 0);
        if (layout.videos > 1) release(...dAssignments);
        return { assignment: joined, x1: reshape(concat(dX1s, 0), [layout.frames, groups * groupSize]) };
      });
      release(x1, dSums);
      return gradients;
    },
    dispose: () => x1.dispose(),
  };
}

/** `[videos, A, B]` to `[A, videos B]` and its inverse: in this form, one matrix product serves all videos. */
const videosInColumns = (x: Tensor): Tensor => {
  const [videos, a, b] = x.shape as [number, number, number];
  return reshape(transpose(x, [1, 0, 2]), [a, videos * b]);
};
const videosFirst = (x: Tensor, videos: number): Tensor => {
  const [a, columns] = x.shape as [number, number];
  return transpose(reshape(x, [a, videos, columns / videos]), [1, 0, 2]);
};

/**
 * v[p, k] = sums[p, k] + sum_g(aSum[g, k] b[g, p]) - sum_g(aSum[g, k]) c[k, p], then y = v / sqrt(sum_p(v^2) + L2_EPSILON).
 * As x1 = x W + b, the bias and the centers enter only through aSum.
 */
function descriptor(...[sums, aSum, bias, centers]: Parameters<Kernels["descriptor"]>): ReturnType<Kernels["descriptor"]> {
  const [videos, groupSize, clusters] = sums.shape as [number, number, number];
  const groups = (aSum.shape[1] as number) / clusters;
  const perGroup = (): Tensor => reshape(aSum, [videos, groups, clusters]);
  const biasRows = (b: Tensor): Tensor => reshape(b, [groups, groupSize]);
  const vlad = tidy(() => {
    const ofBias = videosFirst(matMul(biasRows(bias), videosInColumns(perGroup()), { transposeA: true }), videos);
    return subtractCenters(add(sums, ofBias), aSum, centers);
  });
  sums.dispose();
  const [unit, inverse] = normalizeClusters(vlad);
  return {
    y: reshape(unit, [videos, groupSize * clusters]),
    backward: (dy, b, c) => {
      const gradients = tidy(() => {
        const d = reshape(dy, [videos, groupSize, clusters]);
        const along = multiply(unit, sum(multiply(d, unit), [1], true));
        const dVlad = multiply(subtract(d, along), inverse);
        const dCenters = transpose(negate(sum(multiply(dVlad, sum(perGroup(), [1], true)), [0])), [1, 0]);
        const dBias = matMul(videosInColumns(perGroup()), videosInColumns(dVlad), { transposeB: true });
        const aSumThroughBias = videosFirst(matMul(biasRows(b), videosInColumns(dVlad)), videos);
        const aSumThroughCenters = sum(multiply(dVlad, reshape(transpose(c, [1, 0]), [1, groupSize, clusters])), [1], true);
        return {
          sums: dVlad,
          aSum: reshape(subtract(aSumThroughBias, aSumThroughCenters), [videos, groups * clusters]),
          bias: reshape(dBias, [groups * groupSize]),
          centers: dCenters,
        };
      });
      release(dy, unit, inverse);
      return gradients;
    },
  };
}

/** Subtracts sum_g(aSum[g, k]) c[k, p] from `[videos, P, K]`. */
function subtractCenters(sums: Tensor, aSum: Tensor, centers: Tensor): Tensor {
  const [videos, groupSize, clusters] = sums.shape as [number, number, number];
  return tidy(() => {
    const perCluster = sum(reshape(aSum, [videos, -1, clusters]), [1], true);
    return subtract(sums, multiply(perCluster, reshape(transpose(centers, [1, 0]), [1, groupSize, clusters])));
  });
}

/** L2-normalizes each cluster's part of `[videos, P, K]`; also returns 1 / length `[videos, 1, K]`. Takes ownership of `vlad`. */
function normalizeClusters(vlad: Tensor): readonly [unit: Tensor, inverse: Tensor] {
  const result = tidy(() => {
    const inverse = rsqrt(add(sum(square(vlad), [1], true), constant(L2_EPSILON)));
    return [multiply(vlad, inverse), inverse] as const;
  });
  vlad.dispose();
  return result;
}

function batchNorm(...[x, { scale, shift }, epsilon]: Parameters<Kernels["batchNorm"]>): ReturnType<Kernels["batchNorm"]> {
  const { y, mean, variance, kept } = tidy(() => batchNormWithStatistics(x, scale, shift, epsilon));
  return {
    y,
    mean,
    variance,
    backward: (dy, scaleNow) => {
      const gradient = tidy(() => batchNormGradient(dy, x, scaleNow, kept, epsilon));
      release(dy, x, mean, variance, ...kept);
      return gradient;
    },
  };
}

function dropout(...[x, rate, seed]: Parameters<Kernels["dropout"]>): ReturnType<Kernels["dropout"]> {
  const mask = tidy(() => stepAt(statelessUniform(x.shape, seed), constant(rate)));
  const y = multiply(x, mask);
  x.dispose();
  return {
    y,
    backward: (dy) => {
      const dx = multiply(dy, mask);
      release(dy, mask);
      return dx;
    },
  };
}

function gate(...[h, e]: Parameters<Kernels["gate"]>): ReturnType<Kernels["gate"]> {
  const gates = sigmoid(e);
  const y = multiply(h, gates);
  e.dispose();
  return {
    y,
    backward: (dy) => {
      const de = tidy(() => sigmoidGradient(gates, multiply(dy, h)));
      h.dispose();
      return {
        e: de,
        h: (throughE) => {
          const dh = tidy(() => add(multiply(dy, gates), throughE));
          release(dy, gates, throughE);
          return dh;
        },
      };
    },
  };
}

function crossEntropy(...[logits, labels, mask]: Parameters<Kernels["crossEntropy"]>): Tensor {
  return tidy(() => sum(masked(subtract(softplus(logits), multiply(logits, labels)), mask), [0, 1]));
}

function crossEntropyGradient(...[logits, labels, mask]: Parameters<Kernels["crossEntropyGradient"]>): Tensor {
  const videos = logits.shape[0] as number;
  return tidy(() => multiply(masked(subtract(sigmoid(logits), labels), mask), constant(1 / videos)));
}

function masked(x: Tensor, mask: Tensor | null): Tensor {
  return mask === null ? x : multiply(x, mask);
}

function denseWithAdam(...[x, dy, { w, m, v }, coefficients, decay, onInputGradient]: Parameters<Kernels["denseWithAdam"]>): Tensor {
  const dx = w.use((value) => matMul(dy, value, { transposeB: true }));
  onInputGradient?.(dx);
  tidy(() => w.applyAdam(m, v, matMul(x, dy, { transposeA: true }), coefficients, decay));
  return dx;
}

/** Returns an aggregator that converts features to floats first. Throws BAD_USAGE if the precision is int16 or int8. */
export function freezeWithFloats(
  kernels: Pick<Kernels, "dequantize" | "softAssignFrozen" | "vladSums" | "descriptor">,
  weights: NextvladWeights,
  precision: Precision,
): FrozenAggregator {
  if (precision === "int16" || precision === "int8") {
    const remedy = "use --use-gpu False with it, or --precision float32";
    throw new NextvladError("BAD_USAGE", `${precision} requires the CPU`, { key: "--precision", remedy });
  }
  const { groups, quantization, foldedClusters, clusterNorm, foldedAttention, foldedAttentionBias } = weights;
  const { expansion, expansionBias, centers, descriptorNorm } = weights;
  const folded = [foldedClusters, foldedAttention, foldedAttentionBias];
  const owned = [...[quantization, clusterNorm, descriptorNorm].flatMap((pair) => Object.values(pair)), ...folded] as Tensor[];
  for (const tensor of owned) keep(tensor);
  return {
    aggregate: (bytes, layout) =>
      tidy(() => {
        const x = kernels.dequantize(bytes, layout.frames, quantization);
        const alpha = addBias(matMul(x, foldedAttention), foldedAttentionBias);
        const { assignment, aSum } = kernels.softAssignFrozen(matMul(x, foldedClusters), alpha, clusterNorm, layout);
        const x1 = expansion.use((w) => matMul(x, w));
        x.dispose();
        const { sums, dispose } = kernels.vladSums(assignment, x1, layout, groups);
        dispose();
        const { y } = expansionBias.use((b) => centers.use((c) => kernels.descriptor(sums, aSum, b, c)));
        return addBias(multiply(y, descriptorNorm.scale), descriptorNorm.shift);
      }),
    dispose: () => release(...owned),
  };
}

/** Returns the `freezeDense` kernel that reads the weights where they are. */
export function freezeDenseWith(matMul: Kernels["matMul"]): Kernels["freezeDense"] {
  return (w, { scale, shift }) => {
    const owned = [scale, shift].filter((tensor) => tensor !== undefined);
    for (const tensor of owned) keep(tensor);
    return {
      apply: (x, activation = "linear") =>
        tidy(() => {
          const product = w.use((value) => matMul(x, value));
          const scaled = scale === undefined ? product : multiply(product, scale);
          const shifted = shift === undefined ? scaled : addBias(scaled, shift);
          return activation === "relu" ? relu(shifted) : shifted;
        }),
      dispose: () => release(...owned),
    };
  };
}
