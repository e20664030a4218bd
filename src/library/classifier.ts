import { NextvladError } from "../base/errors.js";
import { availableMemory } from "../base/resource-limits.js";
import { chooseThreads, MAX_THREADS } from "../base/threads.js";
import { openWeights } from "../checkpoints/open-weights.js";
import { findConfig } from "../commands/configuration.js";
import type { Override } from "../config/load.js";
import { BatchBuilder, memoryOf } from "../data/batches.js";
import { checkVideo, type FeatureBytes, makeVideo, type Video, type VideoShape, videoShape } from "../data/video.js";
import { TopSelector } from "../evaluation/top-k.js";
import { chooseBatchSize } from "../inference/infer.js";
import { type LoadedNetwork, loadNetwork } from "../passes/loaded-network.js";
import { type LabelNames, readLabelNames } from "../results/label-names.js";
import { tidy } from "../runtime/tensor.js";
import { toFloats } from "../runtime/transfer.js";
import { warningLog } from "./warnings.js";

export interface ClassifierOptions {
  /** A YAML config; by default that in the weights or, without one, sizes inferred from the weights, and the published recipe's other values. */
  readonly config?: string;
  /** Class names: YouTube-8M's vocabulary.csv, or a file with one name per line. */
  readonly labels?: string;
  /** True: the GPU, or an error without one; false: the CPU; "auto" (the default): the GPU if one works. */
  readonly useGpu?: boolean | "auto";
  /** Threads that compute; by default OMP_NUM_THREADS, or one per available CPU. */
  readonly threads?: number;
  /** Of the products with the features: "float32" (the default), "tf32" on a GPU, "int16" or "int8" on a CPU. */
  readonly precision?: "float32" | "tf32" | "int16" | "int8";
}

/** What `classify` reads of a video: a `Video` of `readShard`, or features of your own, quantized to bytes as YouTube-8M's. */
export interface VideoFeatures {
  /** Number of frames, at least 1. Those after `Classifier.maxFrames` are not used. */
  readonly frames: number;
  /** `[frames, featureSizes.rgb] uint8`, frame by frame. May be omitted if the model has no rgb. */
  readonly rgb?: Uint8Array;
  /** `[frames, featureSizes.audio] uint8`. May be omitted if the model has no audio. */
  readonly audio?: Uint8Array;
  /** Passed on to the prediction. */
  readonly id?: string;
  /** Passed on to the prediction. */
  readonly labels?: Int32Array;
}

export interface RankedClass {
  readonly class: number;
  /** Null without the option `labels`, and for a class that has no name there. */
  readonly name: string | null;
  readonly probability: number;
}

/** The prediction for a video. Its arrays belong to the caller. */
export interface Prediction {
  /** The video's; "" if it has none. */
  readonly id: string;
  /** The video's; empty if it has none. */
  readonly labels: Int32Array;
  /** `[classes] float32`. */
  readonly probabilities: Float32Array;
  /** The most probable classes, in descending order; equal probabilities by class, lower first. */
  readonly top: readonly RankedClass[];
}

/** A model with its weights. */
export interface Classifier {
  readonly numClasses: number;
  /** Name of each class; null without the option `labels`. */
  readonly classNames: readonly (string | null)[] | null;
  /** Bytes per frame; 0 for a feature that the model does not have. */
  readonly featureSizes: { readonly rgb: number; readonly audio: number };
  readonly maxFrames: number;
  /**
   * Yields the predictions of videos in their order. Reads up to 32 videos at a time and computes them together; while it computes, it blocks the thread. Several
   * calls may run at the same time.
   * `topk`: number of classes in `Prediction.top`, 20 by default.
   * Throws BAD_VIDEO if a video does not fit the model, NOT_FINITE if a probability is NaN, BAD_USAGE after `dispose`, and what `videos` throws.
   */
  classify(
    videos: Iterable<VideoFeatures> | AsyncIterable<VideoFeatures>,
    options?: { readonly topk?: number },
  ): AsyncGenerator<Prediction, void>;
  /** Frees the weights. May be called more than once. */
  dispose(): void;
}

/**
 * Loads weights in any format that `nextvlad infer --weights` accepts: a snapshot, a .safetensors or .npz file, or Paddle's. TensorFlow is loaded once per
 * process, so `useGpu` and `threads` of the first call apply to all; on a GPU, the last call decides whether products use tf32.
 * Throws NOT_SET_UP, NO_DEVICE, FILE_MISSING, FILE_UNREADABLE, BAD_WEIGHTS, BAD_FORMAT, BAD_SNAPSHOT, UNSAFE_PICKLE, NOT_FINITE, BAD_CONFIG, BAD_USAGE,
 * BAD_LABELS, OUT_OF_MEMORY.
 */
export async function loadClassifier(weights: string, options: ClassifierOptions = {}): Promise<Classifier> {
  const { useGpu = "auto", precision = "float32" } = options;
  const threads = chooseThreads(checkThreads(options.threads), (message) => warningLog.warn(message));
  const overrides: Override[] = [
    { key: "INFER.use_gpu", value: useGpu, flag: "useGpu" },
    { key: "INFER.precision", value: precision, flag: "precision" },
  ];
  const source = await openWeights(weights, { optimizer: false });
  try {
    const config = await findConfig(options.config === undefined ? {} : { config: options.config }, overrides, source);
    // The caller's clips are classified as they are.
    const MODEL = { ...config.MODEL, segments: false };
    const names = options.labels === undefined ? null : await readLabelNames(options.labels, MODEL.num_classes);
    const batchSize = chooseBatchSize(MODEL, availableMemory().bytes);
    const loaded = await loadNetwork({ config, section: "INFER", batchSize, threads, weights: source }, warningLog);
    return new NetworkClassifier(loaded, videoShape(MODEL, "optional"), names, batchSize);
  } finally {
    await source.close();
  }
}

/** Returns null for the default. Throws BAD_USAGE. */
function checkThreads(threads: number | undefined): number | null {
  if (threads === undefined) return null;
  if (Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS) return threads;
  throw new NextvladError("BAD_USAGE", "invalid value", {
    key: "threads",
    expected: `an integer from 1 to ${MAX_THREADS}`,
    found: threads,
  });
}

class NetworkClassifier implements Classifier {
  readonly numClasses: number;
  readonly classNames: readonly (string | null)[] | null;
  readonly featureSizes: { readonly rgb: number; readonly audio: number };
  readonly maxFrames: number;
  readonly #shape: VideoShape;
  readonly #batchSize: number;
  /** Null after `dispose`. */
  #loaded: LoadedNetwork | null;

  constructor(loaded: LoadedNetwork, shape: VideoShape, names: LabelNames | null, batchSize: number) {
    const [rgb, audio] = shape.featureSizes;
    this.numClasses = shape.numClasses;
    this.classNames = names && Array.from({ length: shape.numClasses }, (_, c) => names.nameOf(c));
    this.featureSizes = { rgb: rgb ?? 0, audio: audio ?? 0 };
    this.maxFrames = shape.maxFrames;
    this.#shape = shape;
    this.#batchSize = batchSize;
    this.#loaded = loaded;
  }

  async *classify(
    videos: Iterable<VideoFeatures> | AsyncIterable<VideoFeatures>,
    { topk = 20 }: { readonly topk?: number } = {},
  ): AsyncGenerator<Prediction, void> {
    const builder = new BatchBuilder();
    let waiting = 0;
    for await (const video of videos) {
      builder.add(this.#fit(video));
      if (++waiting < this.#batchSize) continue;
      yield* this.#compute(builder, topk);
      waiting = 0;
    }
    if (waiting > 0) yield* this.#compute(builder, topk);
  }

  dispose(): void {
    this.#loaded?.dispose();
    this.#loaded = null;
  }

  /** Returns the part of a video that the model uses. Throws BAD_VIDEO. */
  #fit({ id = "", frames, rgb = new Uint8Array(0), audio = new Uint8Array(0), labels = new Int32Array(0) }: VideoFeatures): Video {
    const place = { video: id };
    for (const [name, data] of Object.entries({ rgb, audio })) {
      if (data instanceof Uint8Array && Number.isInteger(frames) && data.length % Math.max(1, frames) === 0) continue;
      const expected = `a Uint8Array of ${frames} frames`;
      const found = data instanceof Uint8Array ? `${data.length} bytes` : typeof data;
      throw new NextvladError("BAD_VIDEO", `invalid ${name} features`, { ...place, expected, found });
    }
    const featureOf = (data: Uint8Array): FeatureBytes => {
      const frameBytes = data.length / frames;
      return { frames, frameBytes, data: data.subarray(0, Math.min(frames, this.maxFrames) * frameBytes) };
    };
    const found = { id, features: [featureOf(rgb), featureOf(audio)] as const, labels: Array.from(labels) };
    return makeVideo(checkVideo(found, this.#shape, place));
  }

  /** Yields the predictions of the videos in `builder`, and empties it. */
  *#compute(builder: BatchBuilder, topk: number): Generator<Prediction, void> {
    if (this.#loaded === null) throw new NextvladError("BAD_USAGE", "the classifier is used after dispose()");
    const { network } = this.#loaded;
    const batch = builder.take();
    const all = tidy(() => toFloats(network.probabilities(batch)));
    builder.release(memoryOf(batch));
    const selector = new TopSelector();
    for (const [video, id] of batch.ids.entries()) {
      const { scores, classes } = selector.selectRow(all, video, this.numClasses, topk);
      const top = Array.from(classes, (c, rank) => ({ class: c, name: this.classNames?.[c] ?? null, probability: scores[rank] as number }));
      const probabilities = all.slice(video * this.numClasses, (video + 1) * this.numClasses);
      yield { id, labels: batch.labels[video] as Int32Array, probabilities, top };
    }
  }
}
