import type { Tensor } from "../tensorflow/runtime.js";
import { assign } from "./assignment.js";
import { normaliseBatch } from "./batch-norm.js";
import type { TrainingContext } from "./block.js";
import { describe } from "./descriptor.js";
import type { Features } from "./features.js";
import { projectFrames } from "./frame-projection.js";
import { batchNormNames } from "./parameters.js";
import type { RaggedLayout } from "./ragged.js";
import type { ModelSizes, StreamSizes } from "./sizes.js";

/**
 * One stream's NeXtVLAD: features (taken over) to descriptors `[videos, P K]`.
 * `backward` ends here: the features are data.
 */
export function aggregateStream(
  x: Features,
  layout: RaggedLayout,
  stream: StreamSizes,
  sizes: ModelSizes,
  context: TrainingContext,
): { readonly y: Tensor; readonly backward: (dy: Tensor) => void } {
  const { groups, clusters } = sizes;
  const projection = projectFrames(x, stream, context);
  const norm = batchNormNames(stream.clusterNorm);
  const options = { stream, groups, clusters, layout };
  const soft = assign(projection.logits, projection.logitsOffset, projection.attention, norm, options, context);
  projection.logitsOffset.dispose();
  const descriptor = describe(soft.assignment, soft.mass, projection.expanded, options, context);
  const normalised = normaliseBatch(descriptor.y, batchNormNames(stream.vladNorm), context);

  const backward = (dy: Tensor): void => {
    const d = descriptor.backward(normalised.backward(dy));
    const { logits, attention } = soft.backward(d.assignment, d.mass);
    projection.backward({ expanded: d.expanded, logits, attention, expansionBias: d.expansionBias });
  };
  return { y: normalised.y, backward };
}
