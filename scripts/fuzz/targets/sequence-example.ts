import type { ShardSource } from "../../../src/conversion/record-video.js";
import { RecordConverter } from "../../../src/conversion/record-video.js";
import type { VideoShape } from "../../../src/data/video.js";
import { findVideo, parseVideo } from "../../../src/data/video-parser.js";
import { isSequenceExample } from "../../../src/formats/protobuf/sequence-example.js";
import type { Target } from "../target.js";

const LOOSE: VideoShape = {
  maxFrames: 300,
  featureNames: ["rgb", "audio"],
  featureSizes: [null, null],
  numClasses: 10,
  labels: "optional",
};
const STRICT: VideoShape = { ...LOOSE, maxFrames: 3, featureSizes: [6, 3], labels: "required" };

const FLOATS: ShardSource = {
  kind: "shard",
  path: "",
  featureNames: ["RGB/feature/floats", "AUDIO/feature/floats"],
  dtype: undefined,
  ranges: [
    [-2, 2],
    [-2, 2],
  ],
};

const recordOf = (file: string, data: Uint8Array) => ({ file, data, record: 0, byteOffset: 12, filePosition: 0 });

export const target: Target = {
  readers: [
    (file, bytes) => parseVideo(recordOf(file, bytes), LOOSE),
    (file, bytes) => parseVideo(recordOf(file, bytes), STRICT),
    (file, bytes) => findVideo(recordOf(file, bytes), { ...LOOSE, maxFrames: 0 }),
    (file, bytes) => new RecordConverter({ ...FLOATS, path: file }).convert(recordOf(file, bytes)),
    (_, bytes) => isSequenceExample(bytes),
  ],
};
