import { type Device, loadTensorflow } from "../../src/tensorflow/runtime.js";

/** Loads TensorFlow for tests of numbers: on the CPU, or with NEXTVLAD_TEST_USE_GPU=True on a GPU, to the same tolerances. */
export function loadForTests(): Promise<Device> {
  return loadTensorflow(process.env.NEXTVLAD_TEST_USE_GPU === "True");
}
