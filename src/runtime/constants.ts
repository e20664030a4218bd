import { type Attributes, run, typeAttribute } from "./execution.js";
import { countLiveTensors, keep, type Tensor, tidy } from "./tensor.js";
import { fromInts, scalar } from "./transfer.js";

const constants = new Map<number, Tensor>();

/** Returns a cached float32 scalar on the device. It is never freed, so use it for a few fixed values and not for values that change every step. */
export function constant(value: number): Tensor {
  const known = constants.get(value);
  if (known !== undefined) return known;
  const made = tidy(() => keep(scalar(value)));
  constants.set(value, made);
  return made;
}

/** Returns a float32 tensor filled with one value, created on the device. */
export function fill(shape: readonly number[], value: number): Tensor {
  const attributes: Attributes = (b) => [typeAttribute("T", "float32")(b), typeAttribute("index_type", "int32")(b)];
  return run("Fill", attributes, [fromInts(shape, [shape.length]), constant(value)]);
}

/** Returns the number of live tensors without cached constants. It is the same after each step unless tensors leak. */
export function countTensors(): number {
  return countLiveTensors() - constants.size;
}
