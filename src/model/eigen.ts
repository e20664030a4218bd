import { NextvladError } from "../base/errors.js";
import { readNpy } from "../formats/tensors/npy.js";

const EIGENVALUES = "use eigenvals.npy of YouTube-8M's PCA download, not its mean.npy or eigenvecs.npy";

export interface EigenFactor {
  /** `[features] float32`, which weights store as eigen_param. */
  readonly factor: Float32Array;
  /** A warning if the values do not look like a PCA's eigenvalues, or null. */
  readonly warning: string | null;
}

/**
 * Reads the factor that inverts the whitening of YouTube-8M's PCA: `sqrt(eigenvalue) + 1e-4` for the first `features` values of column 0 of a .npy
 * (PaddleVideo v1.5.1, models/nextvlad/nextvlad.py). Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT.
 */
export async function readEigenFactor(path: string, features: number): Promise<EigenFactor> {
  const { shape, data } = await readNpy(path);
  const rows = shape[0] ?? 0;
  if (rows < features) {
    const details = { file: path, expected: `at least ${features} eigenvalues`, found: rows };
    throw new NextvladError("BAD_FORMAT", "too few eigenvalues", { ...details, remedy: EIGENVALUES });
  }
  const columns = shape[1] ?? 1;
  const values = Float64Array.from({ length: features }, (_, i) => Number(data[i * columns]));
  const wrong = values.findIndex((value) => !(value >= 0 && Number.isFinite(Math.fround(Math.sqrt(value)))));
  if (wrong !== -1) {
    const details = { file: path, found: values[wrong] as number, remedy: EIGENVALUES };
    throw new NextvladError("BAD_FORMAT", `eigenvalue ${wrong} is negative, NaN, or too large for float32`, details);
  }
  return { factor: Float32Array.from(values, (value) => Math.sqrt(value) + 1e-4), warning: describeAnomaly(values, path) };
}

/** Returns a warning if the values are not positive and in descending order, as a PCA's eigenvalues are, or null. */
function describeAnomaly(values: Float64Array, path: string): string | null {
  const rises = values.reduce((count, value, i) => count + (i > 0 && value > (values[i - 1] as number) ? 1 : 0), 0);
  const isZero = values.every((value) => value === 0);
  if (rises === 0 && !isZero) return null;
  const seen = isZero ? `all ${values.length} values are 0` : `${rises} of ${values.length} values are greater than the one before`;
  return `MODEL.eigen_file ${path} does not look like eigenvalues, which are positive and decrease: ${seen}; ${EIGENVALUES}`;
}
