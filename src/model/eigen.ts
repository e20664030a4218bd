import { NextvladError } from "../base/errors.js";
import { readNpy } from "../formats/npy.js";

/**
 * The factor that undoes the whitening of YouTube-8M's PCA: `sqrt(eigenvalue) + 1e-4` of the first `features` values of column 0 of a .npy
 * (PaddleVideo v1.5.1, models/nextvlad/nextvlad.py). `[features] float32`; this finished factor is what weights carry as eigen_param.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT.
 */
export async function readEigenFactor(path: string, features: number): Promise<Float32Array> {
  const { shape, data } = await readNpy(path);
  const rows = shape[0] ?? 0;
  if (rows < features) {
    const details = { file: path, expected: `at least ${features} eigenvalues`, found: rows };
    throw new NextvladError("BAD_FORMAT", "the file has too few eigenvalues", {
      ...details,
      remedy: "use eigenvals.npy of YouTube-8M's PCA download",
    });
  }
  const columns = shape[1] ?? 1;
  return Float32Array.from({ length: features }, (_, i) => {
    const value = Number(data[i * columns]);
    if (!(value >= 0)) throw new NextvladError("BAD_FORMAT", `eigenvalue ${i} is not a positive number`, { file: path, found: value });
    return Math.sqrt(value) + 1e-4;
  });
}
