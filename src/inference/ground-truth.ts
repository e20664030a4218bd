import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { requireProcessLimits } from "../base/resource-limits.js";
import { chooseThreads, countReaders } from "../base/threads.js";
import type { Config } from "../config/schema.js";
import { adviseSkipping } from "../data/corrupt-records.js";
import type { Shard } from "../data/shard.js";
import type { BatchStream } from "../data/stream.js";
import { checkLabeled, type Metrics, MetricsAccumulator } from "../evaluation/metrics.js";
import type { Top } from "../evaluation/top-k.js";
import { forwardStreamEvents, openReading } from "../passes/reading.js";
import type { SkippedRecordReport } from "../passes/skipped-records.js";
import type { Prediction } from "../results/result-codecs.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { Source } from "./alignment.js";

/** Number of classes for reading labels as long as the actual number is unknown. */
const ANY_CLASS = 2 ** 31 - 1;

/** Labeled videos to measure predictions on. */
export interface Truth {
  /** Name of the shard list, for errors. */
  readonly filelist: string;
  readonly shards: readonly Shard[];
  /** Its sections MODEL and TEST determine how to read the shards. */
  readonly config: Config;
  /** Null if not specified: then each video's predictions must list all classes. */
  readonly numClasses: number | null;
}

/** Metrics for a known number of classes. */
interface Measured {
  readonly numClasses: number;
  readonly accumulator: MetricsAccumulator;
}

/** The labels of the videos in some shards, and the metrics of predictions for them. */
export class GroundTruth {
  /** The labels of each video, as predictions with probability 1. */
  readonly source: Source;
  readonly #stream: BatchStream;
  readonly #truth: Truth;
  readonly #log: Logger;
  /** Null until the number of classes is known. */
  #measured: Measured | null = null;

  private constructor(truth: Truth, stream: BatchStream, log: Logger) {
    this.source = { name: truth.filelist, predictions: labelsOf(stream) };
    this.#truth = truth;
    this.#stream = stream;
    this.#log = log;
    if (truth.numClasses !== null) this.#begin(truth.numClasses);
  }

  /** Starts reading the shards according to the config's MODEL and TEST, and logs the same events as `eval`. Read errors are thrown by `source`. */
  static open(truth: Truth, skipped: SkippedRecordReport, telemetry: Telemetry): GroundTruth {
    const { shards, numClasses } = truth;
    const { batch_size: batchSize, num_readers, on_corrupt: onCorrupt } = truth.config.TEST;
    const threads = chooseThreads(null, (message) => telemetry.log.warn(message));
    const readers = countReaders(num_readers, threads);
    requireProcessLimits({ threads: readers + 1 }, "set TEST.num_readers to 1");
    const model = { ...truth.config.MODEL, num_classes: numClasses ?? ANY_CLASS };
    const stream = openReading(
      { model, labels: "required", shards, batchSize, readers, onCorrupt },
      forwardStreamEvents(skipped, telemetry),
    );
    return new GroundTruth(truth, stream, telemetry.log);
  }

  /**
   * Adds a video to the metrics: `top` is the average of `predictions`. Throws BAD_RESULTS if a predicted class is not one of the model's classes, or if
   * neither the user nor the predictions determine the number of classes.
   */
  add(id: string, top: Top, predictions: readonly Pick<Prediction, "classes">[], labels: Int32Array): void {
    const { numClasses, accumulator } = this.#measure(id, predictions, labels);
    const unknown = top.classes.find((c) => c >= numClasses);
    if (unknown !== undefined) {
      throw new NextvladError("BAD_RESULTS", "a predicted class is not one of the model's classes", {
        video: id,
        expected: `0 to ${numClasses - 1}`,
        found: unknown,
        remedy: "use the config of the model that computed the predictions, or --set MODEL.num_classes",
      });
    }
    accumulator.addRanked(top, labels);
  }

  /**
   * Returns the metrics, and infers the number of classes n if it is not specified: at least one file must list classes 0 to n - 1 for each video, and no class
   * may be n or higher.
   */
  #measure(id: string, predictions: readonly Pick<Prediction, "classes">[], labels: Int32Array): Measured {
    if (this.#measured !== null && this.#truth.numClasses !== null) return this.#measured;
    const listed = Math.max(0, ...predictions.map(({ classes }) => classes.length));
    const highest = highestClass([labels, ...predictions.map(({ classes }) => classes)]);
    const numClasses = this.#measured?.numClasses ?? listed;
    if (listed !== numClasses || highest >= listed) {
      const what = "the results do not list all classes, so the number of classes, which MAP depends on, is unknown";
      throw new NextvladError("BAD_RESULTS", what, {
        video: id,
        key: "MODEL.num_classes",
        expected: `predictions for classes 0 to ${Math.max(numClasses - 1, highest)}`,
        found: `${listed} predictions`,
        remedy: "set the number (--set MODEL.num_classes=3862), or use the model's --config",
      });
    }
    if (this.#measured !== null) return this.#measured;
    this.#log.info(
      `MAP is over ${listed} classes, the number that the results list for each video (override it with --set MODEL.num_classes)`,
    );
    return this.#begin(listed);
  }

  #begin(numClasses: number): Measured {
    const measured = { numClasses, accumulator: new MetricsAccumulator(numClasses, this.#truth.config.MODEL.topk) };
    this.#measured = measured;
    return measured;
  }

  /**
   * Returns the metrics without a loss, which needs the probabilities of all classes. Null before the first video. Throws BAD_LABELS if no video has a label.
   */
  metrics(): Omit<Metrics, "loss"> | null {
    if (this.#measured === null) return null;
    const { accumulator } = this.#measured;
    checkLabeled(accumulator, this.#truth.filelist, this.#log);
    const { loss: _, ...metrics } = accumulator.result();
    return metrics;
  }

  close(): Promise<void> {
    return this.#stream.close();
  }
}

/** Returns the highest class in any of the arrays; -1 if all are empty. */
function highestClass(arrays: readonly Int32Array[]): number {
  let highest = -1;
  for (const classes of arrays) for (const c of classes) if (c > highest) highest = c;
  return highest;
}

async function* labelsOf(stream: BatchStream): AsyncGenerator<Prediction, void> {
  try {
    for await (const { ids, labels } of stream) {
      for (const [video, id] of ids.entries()) {
        const classes = labels[video] as Int32Array;
        yield { id, classes, scores: new Float32Array(classes.length).fill(1) };
      }
    }
  } catch (error) {
    throw adviseSkipping(error, "--set TEST.on_corrupt=skip-record");
  }
}
