import type { Config } from "../config/schema.js";
import { bytesPerFrame } from "../model/memory.js";

/** Default batch size, with which the README's speeds were measured. */
const PREFERRED = 32;
/** Batches of uint8 features in memory at once: the current one and those that the reader threads have read ahead. */
const BATCHES_IN_MEMORY = 5;

/**
 * Returns the bytes that one video of `max_frames` frames takes in inference: its features in the queues, and, of the larger modality, the features as float32,
 * two copies of the cluster logits [frames, G K], and the expansion [frames, D].
 */
export function bytesPerVideo(model: Config["MODEL"]): number {
  const features = model.video_feature_size + model.audio_feature_size;
  return model.max_frames * (BATCHES_IN_MEMORY * features + bytesPerFrame(model));
}

/** Returns the batch size that uses at most half of the available memory: at most 32, at least 1. */
export function chooseBatchSize(model: Config["MODEL"], availableBytes: number): number {
  return Math.max(1, Math.min(PREFERRED, Math.floor(availableBytes / 2 / bytesPerVideo(model))));
}
