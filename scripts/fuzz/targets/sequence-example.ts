import type { VideoShape } from "../../../src/data/video-check.js";
import { findVideo, parseVideo } from "../../../src/data/video-parser.js";
import type { Target } from "../target.js";

const LOOSE: VideoShape = {
  maxFrames: 300,
  featureNames: ["rgb", "audio"],
  featureSizes: [null, null],
  numClasses: 10,
  labels: "optional",
};
const STRICT: VideoShape = { ...LOOSE, maxFrames: 3, featureSizes: [6, 3], labels: "required" };

const recordOf = (file: string, data: Uint8Array) => ({ file, data, record: 0, byteOffset: 12, filePosition: 0 });

export const target: Target = {
  readers: [
    (file, bytes) => parseVideo(recordOf(file, bytes), LOOSE),
    (file, bytes) => parseVideo(recordOf(file, bytes), STRICT),
    (file, bytes) => findVideo(recordOf(file, bytes), { ...LOOSE, maxFrames: 0 }),
  ],
};
