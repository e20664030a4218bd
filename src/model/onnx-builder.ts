import type { OnnxAttribute, OnnxInitializer, OnnxNode } from "../formats/onnx-encoder.js";

/** Collects a graph's nodes and constants. A value is named by the path of the operation that computes it: `video/assignment`. */
export class OnnxBuilder {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: OnnxInitializer[] = [];
  private readonly known = new Set<string>();

  /** Adds an operation and returns the name of its output. */
  add(output: string, operation: string, inputs: readonly string[], attributes: Readonly<Record<string, OnnxAttribute>> = {}): string {
    this.nodes.push({ operation, inputs, output, attributes });
    return output;
  }

  /** Adds a float32 constant (`[]` is the shape of a scalar) and returns its name. */
  floats(name: string, shape: readonly number[], values: Float32Array): string {
    return this.constant({ name, shape, data: values });
  }

  float(name: string, value: number): string {
    return this.floats(name, [], Float32Array.of(value));
  }

  /** Adds a vector `[values] int64`, for axes and shapes, and returns its name. */
  ints(...values: readonly number[]): string {
    return this.constant({ name: `ints/${values.join(",")}`, shape: [values.length], data: BigInt64Array.from(values, BigInt) });
  }

  int(value: number): string {
    return this.constant({ name: `int/${value}`, shape: [], data: BigInt64Array.of(BigInt(value)) });
  }

  /** A constant is written once, however many operations read it. */
  private constant(initializer: OnnxInitializer): string {
    if (!this.known.has(initializer.name)) this.initializers.push(initializer);
    this.known.add(initializer.name);
    return initializer.name;
  }
}
