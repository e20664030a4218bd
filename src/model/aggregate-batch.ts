import type { RaggedLayout } from "../kernels/ragged.js";
import { release, type Tensor } from "../runtime/runtime.js";
import { acrossRanks } from "./across-ranks.js";
import { type Aggregator, continuePass, startPass } from "./aggregator.js";
import type { Division } from "./division.js";
import { inParts } from "./in-parts.js";
import type { TrainingContext } from "./layers.js";
import type { ModalitySizes } from "./sizes.js";

/**
 * Maps one modality's bytes `[N, F] uint8`, the frames of this rank's videos, to the normalized descriptors of all videos of a batch
 * `[videos, descriptorLength]`. `layout` is that of the whole batch. The caller owns y; `backward` takes ownership of its gradient.
 */
export function aggregateBatch(
  aggregator: Aggregator,
  division: Division,
  bytes: Uint8Array,
  layout: RaggedLayout,
  modality: ModalitySizes,
  context: TrainingContext,
): { readonly y: Tensor; readonly backward: (dy: Tensor) => void } {
  const { world, parts } = division;
  const ofRank = parts === 1 ? aggregator.aggregate : inParts(aggregator.aggregate, parts);
  const aggregate = world.size === 1 ? ofRank : acrossRanks(ofRank, division);
  const pass = aggregate(bytes, layout, modality, context, layout.frames);
  const moments = startPass(pass);
  const [descriptors] = continuePass(pass, moments) as [Tensor];
  release(...moments);
  const { y, backward } = aggregator.normalize(descriptors, modality, context);
  return {
    y,
    backward: (dy) => void continuePass(pass, continuePass(pass, [backward(dy)])),
  };
}
