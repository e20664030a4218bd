import { requireMemory } from "../base/resource-limits.js";
import { countParameters, type Parameter } from "../model/parameters.js";
import { assertArraysMatch, fillAllArrays } from "./arrays.js";
import type { ArrayEntry, RawArray, WeightSource } from "./weight-source.js";

const REMEDY = "average only weights of the same model";

/** An array's sum over the weights read so far. */
interface ArraySum {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly sum: Float64Array;
}

/**
 * Averages weights of one model, moving statistics included: sums in float64, rounded to float32 once. Reads one source after the other, and closes none.
 * `table`: the parameters of the model. Throws BAD_WEIGHTS, before any data is read, with every array that does not match, NOT_FINITE if an array holds NaN or
 * Inf, OUT_OF_MEMORY, and what reading throws.
 */
export async function averageWeights(sources: readonly WeightSource[], table: readonly Parameter[]): Promise<WeightSource> {
  for (const source of sources) assertArraysMatch(source, table, REMEDY);
  const parameters = countParameters(table).all;
  requireMemory("averaging these weights", { "sums in float64": 8 * parameters, averages: 4 * parameters });
  const sums = table.map(
    ({ name, shape }): ArraySum => ({ name, shape, sum: new Float64Array(shape.reduce((count, size) => count * size, 1)) }),
  );
  const adders = sums.map(({ name, shape, sum }) => ({ name, shape, upload: (values: Float32Array) => addTo(sum, values) }));
  for (const source of sources) await fillAllArrays(source, adders, REMEDY);
  return sourceOf(sums, sources.length);
}

function addTo(sum: Float64Array, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
}

/** Returns the averages as a source, which computes each when it is read. */
function sourceOf(sums: readonly ArraySum[], count: number): WeightSource {
  async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
    for (const { name, shape, sum } of sums) {
      if (names.has(name))
        yield { name, dtype: "f4", shape, bytes: new Uint8Array(Float32Array.from(sum, (value) => value / count).buffer) };
    }
  }
  const entries = new Map(sums.map(({ name, shape }): [string, ArrayEntry] => [name, { dtype: "f4", shape }]));
  return { path: `the average of ${count} weights`, form: "an average", snapshot: null, entries, read, close: async () => undefined };
}
