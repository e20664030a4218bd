import { type Attributes, run, typeAttribute } from "./execution.js";
import type { Tensor } from "./runtime.js";
import { fromInts } from "./transfer.js";

/** Uniform numbers in [0, 1), a pure function of the two words of `seed`. */
export function statelessUniform(shape: readonly number[], seed: readonly [number, number]): Tensor {
  return stateless("StatelessRandomUniform", shape, seed);
}

/** Standard normal numbers, a pure function of the two words of `seed`. */
export function statelessNormal(shape: readonly number[], seed: readonly [number, number]): Tensor {
  return stateless("StatelessRandomNormal", shape, seed);
}

function stateless(name: string, shape: readonly number[], seed: readonly [number, number]): Tensor {
  const attributes: Attributes = (b) => [
    typeAttribute("dtype", "float32")(b),
    typeAttribute("T", "int32")(b),
    typeAttribute("Tseed", "int32")(b),
  ];
  return run(name, attributes, [fromInts(shape, [shape.length]), fromInts(seed, [2])]);
}
