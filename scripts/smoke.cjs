// Loads TensorFlow through the freshly compiled binding and multiplies two matrices: exit 1 says the set-up is broken.
const util = require("node:util");
const standardError = require("../.native/current/mute.node");

util.isNullOrUndefined ??= (value) => value === null || value === undefined;
util.isArray ??= Array.isArray;
process.env.TF_CPP_MIN_LOG_LEVEL ??= "2";

standardError.mute();
let tf;
try {
  tf = require("@tensorflow/tfjs-node-gpu");
  require("../.native/current/kernels.node");
} finally {
  standardError.unmute();
}
const product = tf.matMul(tf.tensor2d([[1, 2]]), tf.tensor2d([[3], [4]])).dataSync()[0];
if (product !== 11) {
  process.stderr.write(`[1 2] times [3 4] should be 11 and is ${product}\n`);
  process.exit(1);
}
process.stderr.write(`TensorFlow ${tf.backend().binding.TF_Version} on the ${tf.backend().isUsingGpuDevice ? "GPU" : "CPU"}\n`);
