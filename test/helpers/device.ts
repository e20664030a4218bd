import { createRequire } from "node:module";
import nodeUtil from "node:util";
import { type Device, loadTensorflow } from "../../src/runtime/runtime.js";
import type { Tensor } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";

/** Loads TensorFlow for numerical tests: on the CPU, or with NEXTVLAD_TEST_USE_GPU=True on a GPU, with the same tolerances. */
export function loadForTests(): Promise<Device> {
  return loadTensorflow(process.env.NEXTVLAD_TEST_USE_GPU === "True");
}

/** The complete tfjs API. */
export type FullTfjs = typeof import("@tensorflow/tfjs-node-gpu");

/** A tensor of tfjs, which its tape differentiates. */
export type TapeTensor = import("@tensorflow/tfjs-node-gpu").Tensor;

/** Loads tfjs with its operations and its tape, used only in tests as an independent implementation. Loads TensorFlow too. */
export async function loadFullTfjs(): Promise<FullTfjs> {
  await loadForTests();
  // Node 23 removed the functions of `util` that tfjs-node 4.22 still calls (tfjs issue 8609).
  const util = nodeUtil as unknown as Record<string, unknown>;
  util.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  util.isArray ??= Array.isArray;
  const require = createRequire(createRequire(import.meta.url).resolve("@tensorflow/tfjs-node-gpu"));
  const tf = require("@tensorflow/tfjs") as FullTfjs;
  const { NodeJSKernelBackend } = require("./nodejs_kernel_backend");
  const binding: unknown = createRequire(import.meta.url)("../../../.native/current/tfjs_binding.node");
  tf.registerBackend("tensorflow", () => new NodeJSKernelBackend(binding, "@tensorflow/tfjs-node-gpu"));
  await tf.setBackend("tensorflow");
  require("./register_all_kernels");
  return tf;
}

/** Copies a tensor to tfjs. */
export function toTape(tf: FullTfjs, tensor: Tensor): TapeTensor {
  return tf.tensor(toFloats(tensor), [...tensor.shape]);
}
