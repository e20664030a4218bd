import { type ErrorDetails, NextvladError } from "../base/errors.js";

/** Throws NOT_FINITE if an array holds NaN or Inf. */
export function requireFinite(values: Float32Array, what: string, details: ErrorDetails): void {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) * 0;
  if (sum === 0) return;
  const index = values.findIndex((value) => !Number.isFinite(value));
  throw new NextvladError("NOT_FINITE", what, { ...details, found: `${values[index]} at index ${index}` });
}
