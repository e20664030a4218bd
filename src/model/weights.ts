import { NextvladError } from "../base/errors.js";
import { deriveSeed } from "../base/random.js";
import { multiply, statelessNormal } from "../kernels/tensorflow-ops.js";
import { fill } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/runtime.js";
import { scalar } from "../runtime/transfer.js";
import { DeviceVariable, type StoredArray, storedArray } from "../runtime/variables.js";
import type { BatchNormNames, Parameter } from "./parameters.js";

/** moving = BATCH_NORM_MOMENTUM moving + (1 - BATCH_NORM_MOMENTUM) batch. */
const BATCH_NORM_MOMENTUM = 0.9;

/** All arrays of a model, float32, on the device. */
export class WeightStore {
  readonly table: readonly Parameter[];
  private readonly variables = new Map<string, DeviceVariable>();
  private readonly parameters = new Map<string, Parameter>();

  constructor(table: readonly Parameter[]) {
    this.table = table;
    for (const parameter of table) {
      this.parameters.set(parameter.name, parameter);
      this.variables.set(parameter.name, new DeviceVariable(parameter.name, parameter.shape));
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

  /** Returns every array with its name, in the table's order. */
  arrays(): readonly StoredArray[] {
    return this.table.map(({ name }) => storedArray(name, this.variable(name)));
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
        variable.assign(multiply(statelessNormal(shape, words), scalar(deviation)));
      } else {
        variable.assign(fill(shape, initializer === "zeros" ? 0 : 1));
      }
    });
  }

  /** Updates the moving statistics from a batch's: moving = 0.9 moving + 0.1 batch. Borrows the tensors, `[channels]` each. */
  updateStatistics(names: BatchNormNames, mean: Tensor, variance: Tensor): void {
    this.variable(names.movingMean).blend(this.variable(names.movingVariance), { mean, variance }, BATCH_NORM_MOMENTUM);
  }

  dispose(): void {
    for (const variable of this.variables.values()) variable.dispose();
  }
}
