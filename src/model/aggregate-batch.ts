import { type Pausable, withoutPause } from "../distributed/pending.js";
import type { RaggedLayout } from "../kernels/ragged.js";
import { release, type Tensor } from "../runtime/tensor.js";
import { aggregateAcrossRanks } from "./across-ranks.js";
import { type Aggregator, continuePass, startPass } from "./aggregator.js";
import type { Division } from "./division.js";
import { inParts } from "./in-parts.js";
import type { TrainingContext } from "./layers.js";
import type { ModalitySizes } from "./sizes.js";

/** The descriptors of all videos of a batch `[videos, descriptorLength]`, and the pass that takes ownership of their gradient. */
export interface AggregatedFrames {
  readonly y: Tensor;
  readonly backward: (dy: Tensor) => Pausable<void>;
}

/**
 * Maps one modality's bytes `[N, F] uint8`, the frames of this rank's videos, to the normalized descriptors of all videos of a batch. `layout` is that of the whole
 * batch. With several ranks, pauses for each exchange. The caller owns y.
 */
export function* aggregateBatch(
  aggregator: Aggregator,
  division: Division,
  bytes: Uint8Array,
  layout: RaggedLayout,
  modality: ModalitySizes,
  context: TrainingContext,
): Pausable<AggregatedFrames> {
  const { world, parts } = division;
  const aggregate = parts === 1 ? aggregator.aggregate : inParts(aggregator.aggregate, parts);
  const descriptors =
    world.size === 1
      ? aggregateAlone(aggregate, bytes, layout, modality, context)
      : yield* aggregateAcrossRanks(aggregate, division, bytes, layout, modality, context);
  const { y, backward } = aggregator.normalize(descriptors.y, modality, context);
  return { y, backward: (dy) => descriptors.backward(backward(dy)) };
}

/** Aggregates the videos of the whole batch: the values of the whole batch, for which the pass of an aggregator pauses, are those that it yields. */
function aggregateAlone(
  aggregate: Aggregator["aggregate"],
  bytes: Uint8Array,
  layout: RaggedLayout,
  modality: ModalitySizes,
  context: TrainingContext,
): AggregatedFrames {
  const pass = aggregate(bytes, layout, modality, context, layout.frames);
  const moments = startPass(pass);
  const [y] = continuePass(pass, moments) as [Tensor];
  release(...moments);
  return { y, backward: (dy) => withoutPause(() => void continuePass(pass, continuePass(pass, [dy]))) };
}
