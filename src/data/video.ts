import type { CheckedVideo } from "./video-check.js";

/** One video's frame-level features, as bytes (YouTube-8M's quantization: see model/dequantize.ts). */
export interface Video {
  /** Its bytes as text, without loss: see `decodeBytes`. */
  readonly id: string;
  /** Number of frames, 1..max_frames. */
  readonly frames: number;
  /** `[frames, video_feature_size] uint8`, frame after frame; empty where the model does without rgb. */
  readonly rgb: Uint8Array;
  /** `[frames, audio_feature_size] uint8`; empty where the model does without audio. */
  readonly audio: Uint8Array;
  /** Class indices, rising, each once; empty where the shard has none. */
  readonly labels: Int32Array;
}

/** One feature of a video, in memory that nobody else writes to. */
export interface FeatureBytes {
  /** How many frames the video has; `data` may hold fewer, but none that is kept is missing. */
  readonly frames: number;
  readonly frameBytes: number;
  /** `[frames or fewer, frameBytes] uint8`. */
  readonly data: Uint8Array;
}

/** Puts a checked video and its bytes together. */
export function makeVideo({ id, frames, features: [rgb, audio], labels }: CheckedVideo<FeatureBytes>): Video {
  return { id, frames, rgb: rgb?.data ?? new Uint8Array(0), audio: audio?.data ?? new Uint8Array(0), labels };
}

/** A video read from a shard. */
export interface ShardVideo {
  readonly video: Video;
  /** Bytes of the file on disk up to this video's end; an estimate where they do not lie in order. */
  readonly filePosition: number;
}

/** Some videos' features back to back: no padding frame anywhere. */
export interface RaggedBatch {
  readonly ids: readonly string[];
  /** `[videos] int32`. */
  readonly frameCounts: Int32Array;
  /** `[sum of frameCounts, video_feature_size] uint8`. */
  readonly rgb: Uint8Array;
  /** `[sum of frameCounts, audio_feature_size] uint8`. */
  readonly audio: Uint8Array;
  /** Class indices of each video, rising. */
  readonly labels: readonly Int32Array[];
}
