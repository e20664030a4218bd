import { NextvladError } from "../base/errors.js";
import { constant } from "./constants.js";
import { run, runMany, typeAttribute } from "./execution.js";
import { runtime } from "./runtime.js";
import { keep, type Tensor, tidy } from "./tensor.js";
import { fromFloats, fromInts, toFloats } from "./transfer.js";

let created = 0;

/**
 * A float32 array on the device that is updated in place: a TensorFlow resource variable. `use` borrows one tensor that shares its memory permanently, so
 * only our own kernels update it (native/updates.cc); TensorFlow's would first copy the whole value.
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

  /** Sets the value to the memory of a kernel's output, which no other tensor may share. Dispose of that tensor afterwards. */
  assign(value: Tensor): void {
    this.value?.dispose();
    this.value = null;
    runMany("AssignVariableOp", (b) => [typeAttribute("dtype", "float32")(b)], [this.handle, value], 0);
    this.value = tidy(() => keep(this.read()));
  }

  /** Returns a new tensor that shares the variable's memory. */
  private read(): Tensor {
    return run("ReadVariableOp", (b) => [typeAttribute("dtype", "float32")(b)], [this.handle]);
  }

  /** Sets the value from product(shape) floats on the host, which are copied. */
  upload(values: Float32Array): void {
    tidy(() => {
      const sent = fromFloats(values, this.shape);
      // On the CPU, `sent` may share the caller's memory.
      this.assign(runtime().device.kind === "gpu" ? sent : run("NextvladCopy", () => [], [sent]));
    });
  }

  /** Copies the value to the host. Uses a new tensor, because TensorFlow caches the host copy of a GPU tensor even if its value changes later. */
  download(): Float32Array<ArrayBuffer> {
    return tidy(() => toFloats(this.read()));
  }

  private get current(): Tensor {
    if (this.value === null) throw new NextvladError("BAD_WEIGHTS", "the variable has no value");
    return this.value;
  }

  /** Passes the value to `compute`, which borrows it: it must not change it, return it or, for the reason given at `download`, copy it to the host. */
  use<T>(compute: (value: Tensor) => T): T {
    return compute(this.current);
  }

  /**
   * Applies one Adam step in place, w -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon), as in TensorFlow (core/kernels/training_ops.cc) and
   * fluid 1.5, with the gradient `gradient + decay w`; and AdamW's w -= lr weightDecay w, of w before the step. Borrows the gradient.
   */
  applyAdam(m: DeviceVariable, v: DeviceVariable, gradient: Tensor, c: AdamCoefficients, decay: number): void {
    tidy(() => runMany("NextvladAdam", () => [], [this.current, m.current, v.current, gradient, encode(c, decay)], 0));
  }

  /**
   * `applyAdam` with the gradient `x^T dy + decay w` from its factors, without storing the whole gradient (native/dense_adam.cc; CPU only). `x` is
   * `[examples, rows]`, `dy` `[examples, columns]`. Returns dx = `dy w^T`, of w before the update. Calls `onInputGradient`, if given, with dx before the update:
   * in two passes, with the same results.
   */
  applyProductAdam(
    m: DeviceVariable,
    v: DeviceVariable,
    x: Tensor,
    dy: Tensor,
    c: AdamCoefficients,
    decay: number,
    onInputGradient?: (dx: Tensor) => void,
  ): Tensor {
    return tidy(() => {
      const inputs = [x, dy, this.current, m.current, v.current, encode(c, decay)];
      if (onInputGradient === undefined) return run("NextvladDenseAdam", () => [], inputs);
      const dx = run("NextvladDenseGradient", () => [], inputs);
      onInputGradient(dx);
      runMany("NextvladDenseUpdate", () => [], inputs, 0);
      return dx;
    });
  }

  /** Updates a moving average in place: average = momentum average + (1 - momentum) value. Borrows the value, of the same shape. */
  blend(value: Tensor, momentum: number): void {
    runMany("NextvladBlend", () => [], [this.current, value, constant(momentum)], 0);
  }

  /** Frees the value and the handle. */
  dispose(): void {
    this.value?.dispose();
    this.value = null;
    runMany("DestroyResourceOp", (b) => [{ name: "ignore_lookup_error", type: b.TF_ATTR_BOOL, value: true }], [this.handle], 0);
    this.handle.dispose();
  }
}

/** A variable with its name in files. */
export interface StoredArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** Whether each rank stores a part of it. */
  readonly isDivided: boolean;
  download(): Float32Array<ArrayBuffer>;
  upload(values: Float32Array): void;
}

export function storedArray(name: string, variable: DeviceVariable): StoredArray {
  return {
    name,
    shape: variable.shape,
    isDivided: false,
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
  /** AdamW's decay (arXiv:1711.05101), decoupled from the gradient: w -= learningRate weightDecay w. */
  readonly weightDecay: number;
}

/** Encodes the step's coefficients for native/adam.h as float32 bits in an int32 tensor, which stays on the host; a float32 tensor would go to the GPU. */
function encode(c: AdamCoefficients, decay: number): Tensor {
  const step = (c.learningRate * Math.sqrt(1 - c.beta2Power)) / (1 - c.beta1Power);
  const floats = Float32Array.of(step, 1 - c.beta1, 1 - c.beta2, c.epsilon, decay, c.learningRate * c.weightDecay);
  return fromInts(new Int32Array(floats.buffer), [floats.length]);
}
