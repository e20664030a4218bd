import { concat, slice } from "../kernels/tensorflow-ops.js";
import { fill } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/runtime.js";
import type { World } from "./world.js";

/** Returns the ranks' matrices, of `rows[rank]` rows and the same number of columns, one below the other. Borrows x, the matrix of this rank. */
export function gatherRows(x: Tensor, rows: readonly number[], world: World): Tensor {
  const columns = x.shape[1] as number;
  const most = Math.max(...rows);
  return tidy(() => {
    const all = world.gather(padded(x, most, 0));
    if (rows.every((count) => count === most)) return all;
    return concat(
      rows.map((count, rank) => slice(all, [rank * most, 0], [count, columns])),
      0,
    );
  });
}

/** Returns the ranks' matrices, of `columns[rank]` columns and the same number of rows, side by side. Borrows x, the matrix of this rank. */
export function gatherColumns(x: Tensor, columns: readonly number[], world: World): Tensor {
  const rows = x.shape[0] as number;
  return tidy(() => {
    const all = world.gather(padded(x, Math.max(...columns), 1));
    return concat(
      columns.map((count, rank) => slice(all, [rank * rows, 0], [rows, count])),
      1,
    );
  });
}

/** Returns x with zeros appended along an axis, up to a size: all ranks' tensors in an exchange have the same shape. */
function padded(x: Tensor, size: number, axis: 0 | 1): Tensor {
  const [rows, columns] = x.shape as [number, number];
  const missing = size - (axis === 0 ? rows : columns);
  if (missing === 0) return x;
  return concat([x, fill(axis === 0 ? [missing, columns] : [rows, missing], 0)], axis);
}
