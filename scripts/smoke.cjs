// Loads TensorFlow through the new binding and multiplies two matrices. Exits with 1 if the result is wrong.
const loader = require("../.native/current/loader.node");
const level = require("../.native/current/processor.node").levels.at(-1);

if (level === undefined) {
  process.stderr.write("this processor lacks AVX, which TensorFlow requires\n");
  process.exit(1);
}

process.env.TF_CPP_MIN_LOG_LEVEL ??= "2";

loader.mute();
let binding;
try {
  binding = require("../.native/current/tfjs_binding.node");
  require(`../.native/current/kernels-${level}.node`);
} finally {
  loader.unmute();
}
const { TF_FLOAT, TF_ATTR_TYPE, TF_ATTR_BOOL } = binding;
const attributes = [
  { name: "T", type: TF_ATTR_TYPE, value: TF_FLOAT },
  ...["transpose_a", "transpose_b"].map((name) => ({ name, type: TF_ATTR_BOOL, value: false })),
];
const row = binding.createTensor([1, 2], TF_FLOAT, Float32Array.of(1, 2));
const column = binding.createTensor([2, 1], TF_FLOAT, Float32Array.of(3, 4));
const [{ id }] = binding.executeOp("MatMul", attributes, [row, column], 1);
const product = binding.tensorDataSync(id)[0];
if (product !== 11) {
  process.stderr.write(`wrong product of [1 2] and [3 4]: expected 11, found ${product}\n`);
  process.exit(1);
}
process.stderr.write(`TensorFlow ${binding.TF_Version} on the ${binding.isUsingGpuDevice() ? "GPU" : "CPU"}, processor level ${level}\n`);
