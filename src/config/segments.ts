/** Frames of a segment: 5 seconds (https://research.google.com/youtube8m/download.html). */
export const SEGMENT_FRAMES = 5;
