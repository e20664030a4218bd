import type { CheckedVideo } from "./video-check.js";

/** A video's frame-level features, as bytes (YouTube-8M's quantization: see model/dequantize.ts). */
export interface Video {
  /** The ID's bytes as text, without loss: see `decodeBytes`. */
  readonly id: string;
  /** Number of frames, 1..max_frames. */
  readonly frames: number;
  /** `[frames, video_feature_size] uint8`, frame by frame; empty if rgb is unused or missing. */
  readonly rgb: Uint8Array;
  /** `[frames, audio_feature_size] uint8`; empty if audio is unused or missing. */
  readonly audio: Uint8Array;
  /** Class indices, ascending and unique; empty if the shard has none. */
  readonly labels: Int32Array;
}

/** One modality of a video, in memory that nothing else writes to. */
export interface FeatureBytes {
  /** Number of frames of the video; `data` may hold fewer, but at least the frames that are kept. */
  readonly frames: number;
  readonly frameBytes: number;
  /** `[frames or fewer, frameBytes] uint8`. */
  readonly data: Uint8Array;
}

/** Combines a checked video and its bytes. */
export function makeVideo({ id, frames, features: [rgb, audio], labels }: CheckedVideo<FeatureBytes>): Video {
  return { id, frames, rgb: rgb?.data ?? new Uint8Array(0), audio: audio?.data ?? new Uint8Array(0), labels };
}

/** A video read from a shard. */
export interface ShardVideo {
  readonly video: Video;
  /** Bytes of the file on disk up to the end of this video; an estimate if the file is compressed or a pickle. */
  readonly filePosition: number;
}

/** Features of several videos, concatenated without padding frames. */
export interface RaggedBatch {
  readonly ids: readonly string[];
  /** `[videos] int32`. */
  readonly frameCounts: Int32Array;
  /** `[sum of frameCounts, video_feature_size] uint8`. */
  readonly rgb: Uint8Array;
  /** `[sum of frameCounts, audio_feature_size] uint8`. */
  readonly audio: Uint8Array;
  /** Class indices of each video, ascending and unique. */
  readonly labels: readonly Int32Array[];
}
