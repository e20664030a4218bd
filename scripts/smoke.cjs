// Loads TensorFlow through the freshly compiled binding and multiplies two matrices: exit 1 says the set-up is broken.
const util = require("node:util");
util.isNullOrUndefined ??= (value) => value === null || value === undefined;
util.isArray ??= Array.isArray;

const tf = require("@tensorflow/tfjs-node-gpu");
const product = tf.matMul(tf.tensor2d([[1, 2]]), tf.tensor2d([[3], [4]])).dataSync()[0];
if (product !== 11) {
  console.error(`[1 2] times [3 4] should be 11 and is ${product}`);
  process.exit(1);
}
console.error(`TensorFlow ${tf.backend().binding.TF_Version} on the ${tf.backend().isUsingGpuDevice ? "GPU" : "CPU"}`);
