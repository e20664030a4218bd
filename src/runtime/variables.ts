import { NextvladError } from "../base/errors.js";
import { constant } from "./constants.js";
import { run, runMany, typeAttribute } from "./execution.js";
import { keep, runtime, type Tensor, tidy } from "./runtime.js";
import { fromFloats, fromInts, toFloats } from "./transfer.js";

let created = 0;

/**
 * A float32 value that lives on the device and is updated in place: a TensorFlow resource variable. What is lent of it is one tensor that shares its
 * memory for good, so our own kernels update it (native/updates.cc); TensorFlow's would first copy the whole value.
 */
export class DeviceVariable {
  readonly shape: readonly number[];
  private readonly handle: Tensor;
  private value: Tensor | null = null;

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

  /** Takes over the memory of a tensor that a kernel made, and that nobody else has; the tensor should be disposed of afterwards. */
  assign(value: Tensor): void {
    this.value?.dispose();
    this.value = null;
    runMany("AssignVariableOp", (b) => [typeAttribute("dtype", "float32")(b)], [this.handle, value], 0);
    this.value = tidy(() => keep(this.read()));
  }

  /** A new tensor of the value's memory. */
  private read(): Tensor {
    return run("ReadVariableOp", (b) => [typeAttribute("dtype", "float32")(b)], [this.handle]);
  }

  /** Sets the value from the host: product(shape) floats, copied. */
  upload(values: Float32Array): void {
    tidy(() => {
      const sent = fromFloats(values, this.shape);
      // On the CPU, that may be the caller's own memory.
      this.assign(runtime().device.kind === "gpu" ? sent : run("NextvladCopy", () => [], [sent]));
    });
  }

  /** The value, copied to the host. Through a tensor of its own: TensorFlow keeps what it once copied from a GPU, and gives it again whatever happened since. */
  download(): Float32Array<ArrayBuffer> {
    return tidy(() => toFloats(this.read()));
  }

  private get lent(): Tensor {
    if (this.value === null) throw new NextvladError("BAD_WEIGHTS", "the array has no value yet");
    return this.value;
  }

  /** Lends the value to `compute`, which must leave it as it is, not let it out and, for `download`'s reason, not copy it to the host. */
  use<T>(compute: (value: Tensor) => T): T {
    return compute(this.lent);
  }

  /**
   * One step of Adam in place, w -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon): TensorFlow's form (core/kernels/training_ops.cc; fluid 1.5
   * computes the same).
   */
  applyAdam(m: DeviceVariable, v: DeviceVariable, gradient: Tensor, c: AdamCoefficients): void {
    tidy(() => runMany("NextvladAdam", () => [], [this.lent, m.lent, v.lent, gradient, encode(c, 0)], 0));
  }

  /**
   * The same step from the factors of a gradient `x^T dy`, plus `decay` times the value, without the gradient ever existing as a whole
   * (native/dense_adam.cc; CPU only). `x` is `[examples, rows]`, `dy` `[examples, columns]`. Returns `dy w^T`, of the value as it was.
   */
  applyProductAdam(m: DeviceVariable, v: DeviceVariable, x: Tensor, dy: Tensor, c: AdamCoefficients, decay: number): Tensor {
    return tidy(() => run("NextvladDenseAdam", () => [], [x, dy, this.lent, m.lent, v.lent, encode(c, decay)]));
  }

  /** Moves this variable, a mean, and another, a variance, towards a batch's, in place: moving = momentum moving + (1 - momentum) batch. */
  blend(variance: DeviceVariable, batch: { readonly mean: Tensor; readonly variance: Tensor }, momentum: number): void {
    runMany("NextvladBlend", () => [], [this.lent, variance.lent, batch.mean, batch.variance, constant(momentum)], 0);
  }

  /** Frees the value and the handle. */
  dispose(): void {
    this.value?.dispose();
    this.value = null;
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

/** The bits of what native/adam.h reads, on the host whatever the device is: a float's tensor would travel to it. */
function encode(c: AdamCoefficients, decay: number): Tensor {
  const step = (c.learningRate * Math.sqrt(1 - c.beta2Power)) / (1 - c.beta1Power);
  const floats = Float32Array.of(step, 1 - c.beta1, 1 - c.beta2, c.epsilon, decay);
  return fromInts(new Int32Array(floats.buffer), [floats.length]);
}
