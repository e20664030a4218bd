import { BATCH_NORM_EPSILON, type BatchNormNames } from "../../src/model/parameters.js";
import type { Tensor } from "../../src/runtime/runtime.js";
import type { FullTfjs } from "./device.js";

/** Batch normalization in tfjs's operations, which its tape differentiates. */
export function referenceBatchNorm(tf: FullTfjs, x: Tensor, names: BatchNormNames, parameters: ReadonlyMap<string, Tensor>): Tensor {
  const mean = tf.mean(x, 0);
  const variance = tf.mean(tf.square(tf.sub(x, mean)), 0);
  const unit = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, BATCH_NORM_EPSILON)));
  return tf.add(tf.mul(unit, parameters.get(names.scale) as Tensor), parameters.get(names.shift) as Tensor);
}
