import { nextvladNames } from "../../src/model/nextvlad.js";
import { BATCH_NORM_EPSILON, type BatchNormNames } from "../../src/model/parameters.js";
import type { ModalitySizes } from "../../src/model/sizes.js";
import type { FullTfjs, TapeTensor } from "./device.js";

/** Batch normalization in tfjs's operations, which its tape differentiates. */
export function referenceBatchNorm(
  tf: FullTfjs,
  x: TapeTensor,
  names: BatchNormNames,
  parameters: Pick<ReadonlyMap<string, TapeTensor>, "get">,
): TapeTensor {
  const mean = tf.mean(x, 0);
  const variance = tf.mean(tf.square(tf.sub(x, mean)), 0);
  const unit = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, BATCH_NORM_EPSILON)));
  return tf.add(tf.mul(unit, parameters.get(names.scale) as TapeTensor), parameters.get(names.shift) as TapeTensor);
}

/** NeXtVLAD by its definition in the paper's symbols, which tfjs's tape differentiates: nothing is folded, and each video is computed separately. */
export function nextvladOnTape(
  tf: FullTfjs,
  modality: ModalitySizes,
  x: TapeTensor,
  frameCounts: ArrayLike<number>,
  parameters: Pick<ReadonlyMap<string, TapeTensor>, "get">,
): TapeTensor {
  const { groups: G, clusters: K, groupSize: P } = modality;
  const names = nextvladNames(modality.name);
  const value = (name: string): TapeTensor => parameters.get(name) as TapeTensor;
  const frames = x.shape[0] as number;
  const x1 = tf.add(tf.matMul(x, value(names.expansion)), value(names.expansionBias));
  const alpha = tf.add(tf.matMul(x1, value(names.attention)), value(names.attentionBias));
  const z = referenceBatchNorm(tf, tf.matMul(x1, value(names.clusters)), names.clusterNorm, parameters);
  const a = tf.mul(tf.softmax(tf.reshape(z, [frames, G, K])), tf.reshape(tf.sigmoid(alpha), [frames, G, 1]));
  let begin = 0;
  const descriptors = Array.from(frameCounts, (count) => {
    const groupsOf = (tensor: TapeTensor, columns: number): TapeTensor =>
      tf.reshape(tf.slice(tf.reshape(tensor, [frames, G, columns]), [begin, 0, 0], [count, G, columns]), [count * G, columns]);
    const [at, xt] = [groupsOf(a, K), groupsOf(x1, P)];
    begin += count;
    const v = tf.sub(tf.matMul(xt, at, true, false), tf.mul(tf.transpose(value(names.centers)), tf.sum(at, 0, true)));
    return tf.reshape(tf.div(v, tf.sqrt(tf.add(tf.sum(tf.square(v), 0, true), 1e-12))), [P * K]);
  });
  return referenceBatchNorm(tf, tf.stack(descriptors), names.descriptorNorm, parameters);
}
