import { NextvladError } from "../base/errors.js";
import { type Binding, type OpAttribute, runtime } from "./runtime.js";
import { Tensor } from "./tensor.js";

export type ElementType = "float32" | "int32" | "bool" | "uint8" | "resource";

export type Attributes = (binding: Binding) => readonly OpAttribute[];

let kernelCount = 0;

/** Returns the number of kernels run so far in this process, a measure of dispatch overhead. */
export function countKernels(): number {
  return kernelCount;
}

/** Converts a kernel's failure to OUT_OF_MEMORY or KERNEL_FAILED, with the inputs' shapes. */
export function kernelFailure(name: string, inputs: readonly Tensor[], error: unknown): NextvladError {
  const text = error instanceof Error ? error.message : String(error);
  // The binding puts the status code on a line before the message.
  const firstLine = text.replace(/^Invalid TF_Status: \d+\s*Message: /, "").split("\n", 1)[0];
  const shapes = inputs.map((input) => `[${input.shape.join(", ")}]`).join(", ");
  if (/OOM|RESOURCE_EXHAUSTED|out of memory/i.test(text)) {
    return new NextvladError(
      "OUT_OF_MEMORY",
      `out of device memory in the kernel ${name} with inputs ${shapes}`,
      { remedy: "use a smaller --batch-size" },
      error,
    );
  }
  return new NextvladError("KERNEL_FAILED", `the kernel ${name} with inputs ${shapes} failed: ${firstLine}`, {}, error);
}

/** Runs one TensorFlow kernel with one output. Throws OUT_OF_MEMORY or KERNEL_FAILED with the inputs' shapes. */
export function run(name: string, attributes: Attributes, inputs: readonly Tensor[]): Tensor {
  return runMany(name, attributes, inputs, 1)[0] as Tensor;
}

/** Runs one TensorFlow kernel with several outputs (or none). Throws as `run` does. */
export function runMany(name: string, attributes: Attributes, inputs: readonly Tensor[], outputs: number): Tensor[] {
  const { binding } = runtime();
  const ids = inputs.map(({ id }) => id);
  kernelCount++;
  try {
    return binding.executeOp(name, attributes(binding), ids, outputs).map(({ id, shape }) => Tensor.of(id, shape));
  } catch (error) {
    throw kernelFailure(name, inputs, error);
  }
}

function typeNumber(binding: Binding, type: ElementType): number {
  const numbers = {
    float32: binding.TF_FLOAT,
    int32: binding.TF_INT32,
    bool: binding.TF_BOOL,
    uint8: binding.TF_UINT8,
    resource: binding.TF_RESOURCE,
  };
  return numbers[type];
}

/** A type attribute, `T: float32`. */
export function typeAttribute(name: string, type: ElementType): (binding: Binding) => OpAttribute {
  return (binding) => ({ name, type: binding.TF_ATTR_TYPE, value: typeNumber(binding, type) });
}

export const flag = (binding: Binding, name: string, value: boolean): OpAttribute => ({
  name,
  type: binding.TF_ATTR_BOOL,
  value,
});
export const number = (binding: Binding, name: string, value: number): OpAttribute => ({
  name,
  type: binding.TF_ATTR_FLOAT,
  value,
});
export const text = (binding: Binding, name: string, value: string): OpAttribute => ({
  name,
  type: binding.TF_ATTR_STRING,
  value,
});
