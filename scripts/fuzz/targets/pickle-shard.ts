import { readShard } from "../../../src/data/shard-reader.js";
import type { VideoShape } from "../../../src/data/video.js";
import { drain, type Target } from "../target.js";

const SHAPE: VideoShape = { maxFrames: 5, featureNames: ["rgb", "audio"], featureSizes: [null, null], numClasses: 10, labels: "optional" };

export const target: Target = { readers: [(file) => drain(readShard(file, SHAPE))] };
