import { fromFloats, run, runMany, scalar, toFloats, typeAttribute } from "./kernels.js";
import { keep, runtime, type Tensor, tidy } from "./runtime.js";

let created = 0;

/**
 * A float32 value that lives on the device and is updated in place: a TensorFlow resource variable.
 * A tensor from `read` shares the variable's memory; while one is alive, an update first copies the whole value, so use `use`.
 */
export class DeviceVariable {
  readonly shape: readonly number[];
  private readonly handle: Tensor;

  constructor(name: string, shape: readonly number[]) {
    this.shape = shape;
    const sharedName = `nextvlad/${created++}/${name}`;
    this.handle = tidy(() =>
      keep(
        run(
          "VarHandleOp",
          (b) => [
            { name: "container", type: b.TF_ATTR_STRING, value: "" },
            { name: "shared_name", type: b.TF_ATTR_STRING, value: sharedName },
            typeAttribute("dtype", "float32")(b),
            { name: "shape", type: b.TF_ATTR_SHAPE, value: [...shape] },
          ],
          [],
        ),
      ),
    );
  }

  /** Takes over a tensor's value; the tensor should be disposed of afterwards. */
  assign(value: Tensor): void {
    runMany("AssignVariableOp", (b) => [typeAttribute("dtype", "float32")(b)], [this.handle, value], 0);
  }

  /** Sets the value from the host: product(shape) floats. */
  upload(values: Float32Array): void {
    tidy(() => this.assign(fromFloats(values, this.shape)));
  }

  /** The value, copied to the host. */
  download(): Float32Array<ArrayBuffer> {
    return tidy(() => toFloats(this.read()));
  }

  private read(): Tensor {
    return run("ReadVariableOp", (b) => [typeAttribute("dtype", "float32")(b)], [this.handle]);
  }

  /** Lends the value to `compute` and takes it back before anything can update it. */
  use<T>(compute: (value: Tensor) => T): T {
    const value = this.read();
    try {
      return compute(value);
    } finally {
      value.dispose();
    }
  }

  /**
   * One step of Adam in place: TensorFlow's fused kernel, w -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)
   * (core/kernels/training_ops.cc; fluid 1.5 computes the same).
   */
  applyAdam(m: DeviceVariable, v: DeviceVariable, gradient: Tensor, c: AdamCoefficients): void {
    tidy(() => {
      const numbers = [c.beta1Power, c.beta2Power, c.learningRate, c.beta1, c.beta2, c.epsilon].map(scalar);
      runMany(
        "ResourceApplyAdam",
        (b) => [
          typeAttribute("T", "float32")(b),
          { name: "use_locking", type: b.TF_ATTR_BOOL, value: false },
          { name: "use_nesterov", type: b.TF_ATTR_BOOL, value: false },
        ],
        [this.handle, m.handle, v.handle, ...numbers, gradient],
        0,
      );
    });
  }

  /**
   * The same step from the factors of a gradient `x^T dy`, plus `decay` times the value, without the gradient ever existing as a whole
   * (native/dense_adam.cc; CPU only). `x` is `[examples, rows]`, `dy` `[examples, columns]`. Returns `dy w^T`, of the value as it was.
   */
  applyProductAdam(m: DeviceVariable, v: DeviceVariable, x: Tensor, dy: Tensor, c: AdamCoefficients, decay: number): Tensor {
    const step = (c.learningRate * Math.sqrt(1 - c.beta2Power)) / (1 - c.beta1Power);
    const coefficients = Float32Array.of(step, 1 - c.beta1, 1 - c.beta2, c.epsilon, decay);
    return tidy(() => {
      const values = [this.read(), m.read(), v.read()];
      return run("NextvladDenseAdam", () => [], [x, dy, ...values, fromFloats(coefficients, [5])]);
    });
  }

  /** Frees the value and the handle. */
  dispose(): void {
    runMany("DestroyResourceOp", (b) => [{ name: "ignore_lookup_error", type: b.TF_ATTR_BOOL, value: true }], [this.handle], 0);
    runtime().tf.dispose(this.handle);
  }
}

/** A variable under the name that files know it by. */
export interface StoredArray {
  readonly name: string;
  readonly shape: readonly number[];
  download(): Float32Array<ArrayBuffer>;
  upload(values: Float32Array): void;
}

export function storedArray(name: string, variable: DeviceVariable): StoredArray {
  return {
    name,
    shape: variable.shape,
    download: () => variable.download(),
    upload: (values) => variable.upload(values),
  };
}

export interface AdamCoefficients {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** beta1^t and beta2^t, t counting from 1. */
  readonly beta1Power: number;
  readonly beta2Power: number;
}
