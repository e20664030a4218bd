import { NextvladError } from "../base/errors.js";
import { deriveSeed } from "../base/random.js";
import { ALONE } from "../distributed/world.js";
import { multiply, slice, statelessNormal } from "../kernels/tensorflow-ops.js";
import { fill } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { scalar } from "../runtime/transfer.js";
import { DeviceVariable, type StoredArray, storedArray } from "../runtime/variables.js";
import { DividedRows } from "./divided-rows.js";
import type { BatchNormNames, Parameter } from "./parameters.js";

/** moving = BATCH_NORM_MOMENTUM moving + (1 - BATCH_NORM_MOMENTUM) batch. */
const BATCH_NORM_MOMENTUM = 0.9;

/** The arrays of a model, by the names that its layers use. */
export type Weights = Pick<WeightStore, "use" | "variable" | "dividedRows">;

/** All arrays of a model, float32, on the device. */
export class WeightStore {
  readonly table: readonly Parameter[];
  private readonly variables = new Map<string, DeviceVariable>();
  private readonly parameters = new Map<string, Parameter>();
  private readonly divided = new Map<string, DividedRows>();

  /** Several ranks of a training divide the rows of some parameters. */
  constructor(table: readonly Parameter[], world = ALONE) {
    this.table = table;
    for (const parameter of table) {
      const { name, shape } = parameter;
      const [length, ...others] = shape as [number, ...number[]];
      const rows = parameter.divided && world.size > 1 ? new DividedRows(length, world) : null;
      if (rows !== null) this.divided.set(name, rows);
      this.parameters.set(name, parameter);
      this.variables.set(name, new DeviceVariable(name, rows === null ? shape : [rows.count, ...others]));
    }
  }

  /** Returns a parameter's variable. Throws BAD_WEIGHTS if the name is unknown. */
  variable(name: string): DeviceVariable {
    return this.find(this.variables, name);
  }

  /** Returns a parameter's entry in the table. Throws BAD_WEIGHTS if the name is unknown. */
  parameter(name: string): Parameter {
    return this.find(this.parameters, name);
  }

  private find<T>(map: ReadonlyMap<string, T>, name: string): T {
    const found = map.get(name);
    if (found === undefined) throw new NextvladError("BAD_WEIGHTS", "unknown parameter", { parameter: name });
    return found;
  }

  /** Returns the rows of a parameter that this rank stores; null if it stores all. */
  dividedRows(name: string): DividedRows | null {
    return this.divided.get(name) ?? null;
  }

  /** Returns every array with its name, in the table's order. */
  arrays(): readonly StoredArray[] {
    return this.table.map(({ name }) => this.storedArray(name, name, this.variable(name)));
  }

  /** Returns the array `name` in files of a variable that has the same rows as a parameter. */
  storedArray(name: string, parameter: string, variable: DeviceVariable): StoredArray {
    const rows = this.dividedRows(parameter);
    return rows === null ? storedArray(name, variable) : rows.storedArray(name, this.parameter(parameter).shape, variable);
  }

  /**
   * Returns these weights with all rows of each parameter, and a function that frees what was copied for that: the rows of the other ranks, if several divide them.
   * All ranks call it together.
   */
  gatherRows(): { readonly whole: WeightStore; readonly release: () => void } {
    if (this.divided.size === 0) return { whole: this, release: () => undefined };
    const whole = new WeightStore(this.table);
    for (const [name, own] of this.variables) {
      const rows = this.dividedRows(name);
      if (rows === null) whole.adopt(name, own);
      else whole.variable(name).upload(this.storedArray(name, name, own).download());
    }
    const release = (): void => {
      for (const name of this.divided.keys()) whole.variable(name).dispose();
    };
    return { whole, release };
  }

  private adopt(name: string, variable: DeviceVariable): void {
    this.variable(name).dispose();
    this.variables.set(name, variable);
  }

  /** Passes the parameter's value to `compute`, which borrows it, and must not change or return it. */
  use<T>(name: string, compute: (value: Tensor) => T): T {
    return this.variable(name).use(compute);
  }

  /**
   * Initializes a parameter; the value is a pure function of the seed and of the parameter's index in the table.
   * `eigenFactor` is the value of eigen_param `[video_feature_size]` (see `readEigenFactor`), or null for 1.
   */
  initialize(name: string, seed: number, eigenFactor: Float32Array | null): void {
    const index = this.table.findIndex((parameter) => parameter.name === name);
    const { shape, initializer } = this.table[index] as Parameter;
    const variable = this.variable(name);
    if (initializer === "eigen" && eigenFactor !== null) {
      variable.upload(eigenFactor);
      return;
    }
    tidy(() => {
      if (initializer === "msra") {
        const deviation = Math.sqrt(2 / (shape[0] as number));
        const words: [number, number] = [deriveSeed(seed, "initialization", index), deriveSeed(seed, "initialization", index, 1)];
        const normal = statelessNormal(shape, words);
        const rows = this.dividedRows(name);
        const own = rows === null ? normal : slice(normal, [rows.first, 0], [...variable.shape]);
        variable.assign(multiply(own, scalar(deviation)));
      } else {
        variable.assign(fill(variable.shape, initializer === "zeros" ? 0 : 1));
      }
    });
  }

  /** Updates the moving statistics from a batch's: moving = 0.9 moving + 0.1 batch. Borrows the tensors, `[channels]` each. */
  updateStatistics(names: BatchNormNames, mean: Tensor, variance: Tensor): void {
    this.variable(names.movingMean).blend(mean, BATCH_NORM_MOMENTUM);
    this.variable(names.movingVariance).blend(variance, BATCH_NORM_MOMENTUM);
  }

  dispose(): void {
    for (const variable of this.variables.values()) variable.dispose();
  }
}
