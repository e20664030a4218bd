import type { Config } from "../config/schema.js";
import { bytesPerFrame } from "../model/memory-need.js";

/** Videos per batch unless the user chooses: the README's speeds are those of this size. */
const PREFERRED = 32;
/** Batches of bytes in memory at once: the one in work and those that the reader threads hold ahead. */
const BATCHES_IN_MEMORY = 5;

/**
 * Bytes that one video of `max_frames` frames takes in inference: its features in the queues, and, of the larger stream, the features as float32, two
 * copies of the cluster logits [frames, G K], and the expansion [frames, D].
 */
export function bytesPerVideo(model: Config["MODEL"]): number {
  const features = model.video_feature_size + model.audio_feature_size;
  return model.max_frames * (BATCHES_IN_MEMORY * features + bytesPerFrame(model));
}

/** Videos per batch that use at most half of the available memory: 32, or fewer if memory is short, but at least 1. */
export function chooseBatchSize(model: Config["MODEL"], availableBytes: number): number {
  return Math.max(1, Math.min(PREFERRED, Math.floor(availableBytes / 2 / bytesPerVideo(model))));
}
