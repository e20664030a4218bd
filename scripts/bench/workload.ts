import { randomFillSync } from "node:crypto";
import type { RaggedBatch } from "../../src/data/video.js";
import type { ModelSizes } from "../../src/model/sizes.js";

/** Number of frames of every video, or YouTube-8M's mix of lengths. */
export type Frames = number | "yt8m";

const SHORTEST = 120;
const LONGEST = 300;

/** Returns the frame counts, `[videos] int32`. The mix is spread evenly over 120..300 frames: 210 on average, as in YouTube-8M. */
export function frameCounts(videos: number, frames: Frames): Int32Array {
  if (frames !== "yt8m") return new Int32Array(videos).fill(frames);
  const stretch = LONGEST - SHORTEST;
  return Int32Array.from({ length: videos }, (_, i) => Math.round(SHORTEST + (stretch * (i + 0.5)) / videos));
}

/** Returns the minimum and the maximum number of frames per video. */
export function frameRange(frames: Frames): readonly [number, number] {
  return frames === "yt8m" ? [SHORTEST, LONGEST] : [frames, frames];
}

/** Makes a batch of random features with three labels per video. */
export function randomBatch(videos: number, frames: Frames, sizes: ModelSizes): RaggedBatch {
  const counts = frameCounts(videos, frames);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const third = Math.floor(sizes.classes / 3);
  return {
    ids: Array.from({ length: videos }, (_, i) => `v${i}`),
    frameCounts: counts,
    rgb: randomFillSync(new Uint8Array(total * sizes.rgbFeatures)),
    audio: randomFillSync(new Uint8Array(total * sizes.audioFeatures)),
    labels: Array.from({ length: videos }, (_, i) => Int32Array.of(i % third, third + (i % third), 2 * third + (i % third))),
  };
}
