import { concat, slice } from "../kernels/tensorflow-ops.js";
import { fill } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { mapPending, type Pending } from "./pending.js";
import type { World } from "./world.js";

/** Returns the ranks' matrices, of `rows[rank]` rows and the same number of columns, one below the other. Borrows x, the matrix of this rank. */
export function gatherRows(x: Tensor, rows: readonly number[], world: World): Tensor {
  return startGatherRows(x, rows, world).wait();
}

/** Starts `gatherRows`. */
export function startGatherRows(x: Tensor, rows: readonly number[], world: World): Pending<Tensor> {
  const columns = x.shape[1] as number;
  const most = Math.max(...rows);
  const exchange = tidy(() => world.startGather(padded(x, most, 0)));
  return mapPending(exchange, (all) => {
    if (rows.every((count) => count === most)) return all;
    return concat(
      rows.map((count, rank) => slice(all, [rank * most, 0], [count, columns])),
      0,
    );
  });
}

/** Starts to put the ranks' matrices, of `columns[rank]` columns and the same number of rows, side by side. Borrows x, the matrix of this rank. */
export function startGatherColumns(x: Tensor, columns: readonly number[], world: World): Pending<Tensor> {
  const rows = x.shape[0] as number;
  const exchange = tidy(() => world.startGather(padded(x, Math.max(...columns), 1)));
  return mapPending(exchange, (all) =>
    concat(
      columns.map((count, rank) => slice(all, [rank * rows, 0], [rows, count])),
      1,
    ),
  );
}

/** Returns x with zeros appended along an axis, up to a size: all ranks' tensors in an exchange have the same shape. */
function padded(x: Tensor, size: number, axis: 0 | 1): Tensor {
  const [rows, columns] = x.shape as [number, number];
  const missing = size - (axis === 0 ? rows : columns);
  if (missing === 0) return x;
  return concat([x, fill(axis === 0 ? [missing, columns] : [rows, missing], 0)], axis);
}
