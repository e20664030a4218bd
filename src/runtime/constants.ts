import { type Attributes, run, typeAttribute } from "./execution.js";
import { keep, runtime, type Tensor, tidy } from "./runtime.js";
import { fromInts, scalar } from "./transfer.js";

const constants = new Map<number, Tensor>();

/** A float32 scalar that stays on the device for the next time: for numbers of which there are a handful, and not for those that change from step to step. */
export function constant(value: number): Tensor {
  const known = constants.get(value);
  if (known !== undefined) return known;
  const made = tidy(() => keep(scalar(value)));
  constants.set(value, made);
  return made;
}

/** A tensor of one value, made on the device. */
export function fill(shape: readonly number[], value: number): Tensor {
  const attributes: Attributes = (b) => [typeAttribute("T", "float32")(b), typeAttribute("index_type", "int32")(b)];
  return run("Fill", attributes, [fromInts(shape, [shape.length]), constant(value)]);
}

/** How many tensors are alive, constants apart: the same from step to step, or something leaks. */
export function countTensors(): number {
  return runtime().tf.memory().numTensors - constants.size;
}
