import { formatBytes } from "../base/numbers.js";
import { availableMemory, requireMemory } from "../base/resource-limits.js";
import { clipFrames } from "../config/segments.js";
import { branchPrefixes } from "./branch.js";
import { classifierColumns } from "./classifier.js";
import { descriptorsLength, parameterTable } from "./network.js";
import { countParameters } from "./parameters.js";
import { type ModelSection, modalitiesOf, modelSizes } from "./sizes.js";

const FLOAT_BYTES = 4;

/** What will be computed. */
export interface Computation {
  readonly model: ModelSection & { readonly max_frames: number; readonly segments: boolean };
  readonly batchSize: number;
  /** Number of parts into which a batch is divided: this process computes the frames of one at a time. */
  readonly parts: number;
  /** Number of ranks that divide the rows of some parameters. */
  readonly ranks: number;
  readonly training: boolean;
  /** Whether training averages the weights too. */
  readonly averaging?: boolean;
  /** Whether the device computes in host memory. */
  readonly inHostMemory: boolean;
}

/**
 * Returns the minimum bytes of host memory of a computation, whatever its videos: the parameters; in training, Adam's two moments, the averages of the
 * parameters if any, and a snapshot's copy of all these; and the video activations of a batch (of one video in inference, whose last batch may be smaller).
 * On a GPU, only the copy is in host memory.
 */
export function minimumMemory({ model, batchSize, ranks, training, averaging = false, inHostMemory }: Computation): Record<string, number> {
  const sizes = modelSizes(model);
  const table = parameterTable(sizes);
  const { all, trained } = countParameters(table);
  const ofOthers = countParameters(table.filter(({ divided }) => divided)).all * (1 - 1 / ranks);
  const parameters = FLOAT_BYTES * (all - ofOthers);
  const moments = training ? FLOAT_BYTES * 2 * (trained - ofOthers) : 0;
  const averages = averaging ? { averages: parameters } : {};
  const copy = training ? { "a snapshot's copy": FLOAT_BYTES * (all + 2 * trained + (averaging ? all : 0)) } : {};
  if (!inHostMemory) return copy;
  const activations = (training ? batchSize : 1) * bytesPerVideo(model, training);
  return { parameters, ...(training ? { moments } : {}), ...averages, ...copy, activations };
}

/** Returns the bytes of one video's activations after the aggregators: descriptor, hidden layer and classifier; in training, forward and backward. */
function bytesPerVideo(model: ModelSection, training: boolean): number {
  const sizes = modelSizes(model);
  // Inference computes a mixture's branches one after another.
  const branches = training ? branchPrefixes(sizes.model).length : 1;
  return FLOAT_BYTES * (training ? 2 : 1) * branches * (descriptorsLength(sizes) + sizes.hidden + classifierColumns(sizes));
}

/** Returns the bytes of one frame's activations in the larger modality: the features, two copies of the cluster logits [G K], and the expansion [D]. */
export function bytesPerFrame(model: ModelSection): number {
  const sizes = modelSizes(model);
  const floats = modalitiesOf(sizes).map(({ features, expanded, groups, clusters }) => features + 2 * groups * clusters + expanded);
  return FLOAT_BYTES * Math.max(...floats);
}

/**
 * Throws OUT_OF_MEMORY if a computation's minimum (`minimumMemory`) exceeds the available memory. Calls `warn` if a full batch of videos of `max_frames` frames
 * exceeds it.
 */
export function checkMemory(computation: Computation, warn: (message: string) => void, available = availableMemory()): void {
  const { model, batchSize, parts, training, inHostMemory } = computation;
  const minimum = minimumMemory(computation);
  requireMemory(training ? "training this model" : "this model", minimum, available);
  if (!inHostMemory) return;
  const { activations: _, ...fixed } = minimum;
  const frames = Math.ceil(batchSize / parts) * clipFrames(model);
  // In parts, only the descriptors of a branch are stored for its backward pass.
  const branches = training && parts === 1 ? branchPrefixes(model.name).length : 1;
  const full = branches * frames * bytesPerFrame(model) + batchSize * bytesPerVideo(model, training);
  const needed = Object.values(fixed).reduce((sum, bytes) => sum + bytes, full);
  if (needed <= available.bytes) return;
  const batch = `${batchSize} videos of ${clipFrames(model)} frames`;
  const memory = `${formatBytes(available.bytes)} is available within ${available.limit}`;
  const remedy = `use ${training ? "--accumulate or " : ""}a smaller --batch-size`;
  warn(`a batch of ${batch} needs about ${formatBytes(needed)}, and ${memory}: if the run is killed, ${remedy}`);
}
