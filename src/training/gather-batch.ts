import type { RaggedBatch } from "../data/video.js";
import type { World } from "../distributed/world.js";

/** What the other ranks need of a rank's videos: all but their features. */
interface SharedPart {
  readonly ids: readonly string[];
  readonly frameCounts: readonly number[];
  readonly labels: readonly (readonly number[])[];
  readonly labelWeights: readonly (readonly number[])[] | undefined;
  readonly rated: readonly (readonly number[])[] | undefined;
  readonly bytesRead: number;
}

/** A batch of all ranks' videos, with the features of this rank's, and the bytes that each rank has read of the epoch so far. */
export interface GatheredBatch {
  readonly batch: RaggedBatch;
  readonly bytesRead: readonly number[];
}

/** Combines the ranks' parts of a batch, in the order of the ranks. `bytesRead`: the bytes that this rank has read of the epoch so far. */
export function gatherBatch(world: World, own: RaggedBatch, bytesRead: number): GatheredBatch {
  if (world.size === 1) return { batch: own, bytesRead: [bytesRead] };
  const { ids, frameCounts, labels, labelWeights, rated } = own;
  const listAll = (arrays: readonly (Int32Array | Float32Array)[]): number[][] => arrays.map((array) => [...array]);
  const ofLabels = { labels: listAll(labels), labelWeights: labelWeights && listAll(labelWeights), rated: rated && listAll(rated) };
  const part: SharedPart = { ids, frameCounts: [...frameCounts], ...ofLabels, bytesRead };
  const parts = world.exchangeTexts(JSON.stringify(part)).map((text) => JSON.parse(text) as SharedPart);
  const batch = {
    ...own,
    ids: parts.flatMap(({ ids }) => ids),
    frameCounts: Int32Array.from(parts.flatMap(({ frameCounts }) => frameCounts)),
    labels: parts.flatMap(({ labels }) => labels.map((list) => Int32Array.from(list))),
    rated: rated && parts.flatMap(({ rated = [] }) => rated.map((list) => Int32Array.from(list))),
    labelWeights: labelWeights && parts.flatMap(({ labelWeights = [] }) => labelWeights.map((list) => Float32Array.from(list))),
  };
  return { batch, bytesRead: parts.map(({ bytesRead }) => bytesRead) };
}
