import { createRequire } from "node:module";
import { type Device, loadTensorflow } from "../../src/runtime/runtime.js";

/** Loads TensorFlow for tests of numbers: on the CPU, or with NEXTVLAD_TEST_USE_GPU=True on a GPU, to the same tolerances. */
export function loadForTests(): Promise<Device> {
  return loadTensorflow(process.env.NEXTVLAD_TEST_USE_GPU === "True");
}

/** tfjs, all of it. */
export type WholeTfjs = typeof import("@tensorflow/tfjs-node-gpu");

/** tfjs with its operations and its tape, which only tests use: an independent way to compute. Loads TensorFlow too. */
export async function loadWholeTfjs(): Promise<WholeTfjs> {
  await loadForTests();
  const require = createRequire(createRequire(import.meta.url).resolve("@tensorflow/tfjs-node-gpu"));
  const tf = require("@tensorflow/tfjs") as WholeTfjs;
  // It is among those that follow.
  tf.unregisterKernel("Identity", "tensorflow");
  require("./register_all_kernels");
  return tf;
}
