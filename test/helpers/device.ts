import { createRequire } from "node:module";
import { type Device, loadTensorflow } from "../../src/runtime/runtime.js";

/** Loads TensorFlow for numerical tests: on the CPU, or with NEXTVLAD_TEST_USE_GPU=True on a GPU, with the same tolerances. */
export function loadForTests(): Promise<Device> {
  return loadTensorflow(process.env.NEXTVLAD_TEST_USE_GPU === "True");
}

/** The complete tfjs API. */
export type FullTfjs = typeof import("@tensorflow/tfjs-node-gpu");

/** Loads tfjs with its operations and its tape, used only in tests as an independent implementation. Loads TensorFlow too. */
export async function loadFullTfjs(): Promise<FullTfjs> {
  await loadForTests();
  const require = createRequire(createRequire(import.meta.url).resolve("@tensorflow/tfjs-node-gpu"));
  const tf = require("@tensorflow/tfjs") as FullTfjs;
  // `register_all_kernels` registers it again.
  tf.unregisterKernel("Identity", "tensorflow");
  require("./register_all_kernels");
  return tf;
}
