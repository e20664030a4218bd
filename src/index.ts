/** The library: see docs/library.md. */
export { type ErrorCode, type ErrorDetails, NextvladError } from "./base/errors.js";
export type { Video } from "./data/video.js";
export {
  type Classifier,
  type ClassifierOptions,
  loadClassifier,
  type Prediction,
  type RankedClass,
  type VideoFeatures,
} from "./library/classifier.js";
export { type Evaluation, evaluate, type LabeledPrediction } from "./library/evaluate.js";
export { type ReadShardOptions, readShard } from "./library/read-shard.js";
