import { NextvladError } from "../base/errors.js";
import type { Config } from "../config/schema.js";
import { resolveShards } from "../data/file-list.js";
import type { BatchStream } from "../data/stream.js";
import type { DamageReport } from "../evaluation/damage-report.js";
import { openReading } from "../evaluation/evaluate.js";
import { type Metrics, MetricsAccumulator } from "../evaluation/metrics.js";
import type { Top } from "../evaluation/top-k.js";
import { tellEvents } from "../evaluation/watched-batches.js";
import type { Prediction } from "../results/prediction.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { Source } from "./alignment.js";

/** The labels of the videos in some shards, and the metrics of predictions for them. */
export class GroundTruth {
  /** Each video's labels, as predictions that give each of them a probability of 1. */
  readonly source: Source;
  readonly #stream: BatchStream;
  readonly #numClasses: number;
  readonly #metrics: MetricsAccumulator;

  private constructor(filelist: string, stream: BatchStream, { num_classes: numClasses, topk }: Config["MODEL"]) {
    this.source = { name: filelist, predictions: labelsOf(stream) };
    this.#stream = stream;
    this.#numClasses = numClasses;
    this.#metrics = new MetricsAccumulator(numClasses, topk);
  }

  /** Starts to read the shards, as the config's MODEL and TEST say, and tells of it as `eval` does. Throws what `resolveShards` throws; what reading throws comes out of `source`. */
  static async open(filelist: string, config: Config, damage: DamageReport, telemetry: Telemetry): Promise<GroundTruth> {
    const shards = await resolveShards(filelist, { cwd: process.cwd() });
    const { batch_size: batchSize, num_readers: readers, on_corrupt: onCorrupt } = config.TEST;
    const manner = { onCorrupt, events: tellEvents(damage, telemetry) };
    return new GroundTruth(filelist, openReading(config, shards, batchSize, readers, "required", manner), config.MODEL);
  }

  /** Adds a video to the metrics. Throws BAD_RESULTS where a predicted class is none of the config's. */
  add(id: string, top: Top, labels: Int32Array): void {
    const unknown = top.classes.find((c) => c >= this.#numClasses);
    if (unknown !== undefined) {
      throw new NextvladError("BAD_RESULTS", "a predicted class is not one of the labelled shards'", {
        video: id,
        expected: `0 to ${this.#numClasses - 1}`,
        found: unknown,
        remedy: "give the config of the model that made the predictions, or --set MODEL.num_classes",
      });
    }
    this.#metrics.addRanked(top, labels);
  }

  /** Without a loss, which takes the probabilities of all classes. */
  metrics(): Omit<Metrics, "loss"> {
    const { loss: _, ...metrics } = this.#metrics.result();
    return metrics;
  }

  close(): Promise<void> {
    return this.#stream.close();
  }
}

async function* labelsOf(stream: BatchStream): AsyncGenerator<Prediction, void> {
  for await (const { ids, labels } of stream) {
    for (const [video, id] of ids.entries()) {
      const classes = labels[video] as Int32Array;
      yield { id, classes, scores: new Float32Array(classes.length).fill(1) };
    }
  }
}
