/** Frames of a segment: 5 seconds (https://research.google.com/youtube8m/download.html). */
export const SEGMENT_FRAMES = 5;

/** Returns the maximum number of frames of a clip that the model classifies: a video, or with `segments` one of its segments. */
export function clipFrames({ segments, max_frames }: { readonly segments: boolean; readonly max_frames: number }): number {
  return segments ? Math.min(SEGMENT_FRAMES, max_frames) : max_frames;
}
