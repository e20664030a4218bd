import { divideEvenly } from "../base/numbers.js";
import { addAll, concat, slice } from "../kernels/tensorflow-ops.js";
import type { BatchNorm, Kernels } from "../kernels/types.js";
import { release, type Tensor, tidy } from "../runtime/tensor.js";

/**
 * Returns kernels whose batch norm normalizes each rank's share of the rows by the statistics of that share alone, as each of `ranks` processes with a batch norm
 * of its own does. The reported mean and variance are those of rank 0's share; the gradients of scale and shift are the sums over all shares.
 */
export function withShareNorm(kernels: Kernels, ranks: number): Kernels {
  return {
    ...kernels,
    batchNorm: (x, norm, epsilon): BatchNorm => {
      const shares = cutRows(x, ranks).map((share) => kernels.batchNorm(share, norm, epsilon));
      const { mean, variance } = shares[0] as BatchNorm;
      return {
        y: joinRows(shares.map(({ y }) => y)),
        mean,
        variance,
        backward: (dy, scale) => {
          const gradients = cutRows(dy, ranks).map((share, rank) => (shares[rank] as BatchNorm).backward(share, scale));
          const sumOf = (name: "scale" | "shift"): Tensor => {
            const terms = gradients.map((gradient) => gradient[name]);
            const total = addAll(terms);
            release(...terms);
            return total;
          };
          return { x: joinRows(gradients.map(({ x }) => x)), scale: sumOf("scale"), shift: sumOf("shift") };
        },
      };
    },
  };
}

/** Cuts `[rows, columns]` into the ranks' shares of the rows. Takes ownership of x. */
function cutRows(x: Tensor, ranks: number): readonly Tensor[] {
  const [rows, columns] = x.shape as [number, number];
  const shares = tidy(() => divideEvenly(rows, ranks).map(([first, count]) => slice(x, [first, 0], [count, columns])));
  x.dispose();
  return shares;
}

/** Concatenates the ranks' shares of the rows, more than one. Takes ownership of them. */
function joinRows(shares: readonly Tensor[]): Tensor {
  const joined = tidy(() => concat(shares, 0));
  release(...shares);
  return joined;
}
