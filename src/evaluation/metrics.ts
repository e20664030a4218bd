import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { type Curves, computeCurves } from "./curves.js";
import type { FullRanking } from "./full-ranking.js";
import { PredictionList } from "./prediction-list.js";
import type { ScoreRows } from "./score-rows.js";
import { type Top, TopSelector } from "./top-k.js";

/** YouTube-8M's metrics (google/youtube-8m, eval_util.py) over all added videos. */
export interface Metrics {
  /** Share of videos whose top class is a true label. NaN without videos, as are `perr` and `loss`. */
  readonly hit_at_one: number;
  /** Precision at equal recall rate: the share of true labels among a video's top n classes, where n is its number of labels; averaged over videos. */
  readonly perr: number;
  /** Global average precision over the top predictions of all videos (20 per video by default), pooled. */
  readonly gap: number;
  /** Mean of `aps` over all classes; a class without positives counts as 0. */
  readonly map: number;
  /** Mean loss per video; NaN if any video was added without a loss. */
  readonly loss: number;
  readonly videos: number;
  /** Videos without a label: misses in `hit_at_one`, `perr` and `gap`. NaN if they were not counted (see `nameSums`). */
  readonly videos_without_labels: number;
  /** Average precision of each class, from the same top predictions; `[classes] float64`. */
  readonly aps: Float64Array;
  /** Only with `--full-ranking`. */
  readonly full_ranking?: FullRanking;
  /** Only of rated segments. */
  readonly segments?: SegmentRanking;
}

/** Maximum number of segments of a class that count: K in Kaggle's MAP@K (The 3rd YouTube-8M Video Understanding Challenge). */
export const MAX_RANKED_SEGMENTS = 100_000;

/** The metric of YouTube-8M 2019, from the rated pairs of segment and class. */
export interface SegmentRanking {
  /**
   * Mean over the classes with positives of the average precision of their rated segments, each ranked by its score: the sum of the precision at each positive,
   * divided by the number of positives (google/youtube-8m, segment_eval_inference.py). NaN if no class has positives.
   */
  readonly map_at_k: number;
  /** K. */
  readonly k: number;
  /** Number of classes with positives. */
  readonly classes: number;
}

/** Encodes metrics as the JSON of a result file; NaN and infinite values become null. */
export function encodeMetrics({ aps, full_ranking, ...summary }: Omit<Metrics, "loss"> & Partial<Pick<Metrics, "loss">>): string {
  const full = full_ranking && { ...full_ranking, aps: Array.from(full_ranking.aps), aucs: Array.from(full_ranking.aucs) };
  return `${JSON.stringify({ ...summary, aps: Array.from(aps), full_ranking: full }, null, 1)}\n`;
}

/** Returns the metrics without those of single classes, for the log. */
export function summarize({ aps: _, full_ranking, ...summary }: Metrics) {
  if (full_ranking === undefined) return summary;
  const { aps: __, aucs: ___, ...full } = full_ranking;
  return { ...summary, full_ranking: full };
}

/** Formats metrics over the full ranking: "mAP = 0.2505, mAUC = 0.9412, d-prime = 2.2130". */
export function formatFullRanking({ map, mauc, d_prime }: FullRanking): string {
  return `mAP = ${map.toFixed(4)}, mAUC = ${mauc.toFixed(4)}, d-prime = ${d_prime.toFixed(4)}`;
}

/** Formats the metric of rated segments: "MAP@100000 = 0.7512 over 1000 classes with positives". */
export function formatSegmentRanking({ map_at_k, k, classes }: SegmentRanking): string {
  return `MAP@${k} = ${map_at_k.toFixed(4)} over ${classes} classes with positives`;
}

/**
 * Checks the labels that metrics were computed from: warns about videos without any. Throws BAD_LABELS if no video has one, which would make all metrics 0.
 * `file`: the list of shards.
 */
export function checkLabeled({ sums, isOfSegments }: MetricsAccumulator, file: string, log: Logger): void {
  const [videos, unlabeled] = [sums.videos[0], sums.videos_without_labels[0]];
  if (sums.positives.every((count) => count === 0)) {
    const remedy = "pass shards with labels; for videos without labels, use infer";
    throw new NextvladError("BAD_LABELS", `cannot compute metrics: none of the ${videos} videos has a label`, { file, remedy });
  }
  // That raters found none of the classes in a segment is a result.
  if (unlabeled === undefined || !(unlabeled > 0) || isOfSegments) return;
  log.warn({ videos, videos_without_labels: unlabeled }, `${file}: ${unlabeled} of ${videos} videos have no labels; they count as misses`);
}

/** Returns a scalar sum, initially 0. */
const sum = (): Float64Array => new Float64Array(1);

/**
 * Accumulates predictions batch by batch and computes the metrics at the end. Stores `topk` predictions per video; whole rows only pass through `scores`.
 * Predictions with equal scores rank by class, lower first.
 */
export class MetricsAccumulator {
  readonly numClasses: number;
  /** Number of stored predictions per video. */
  readonly topk: number;
  /** The added rows, to be taken for a file, if the metrics over the full ranking are requested; else null. */
  readonly scores: ScoreRows | null;
  /** Whether the videos are rated segments, of which only the rated classes count. */
  readonly isOfSegments: boolean;
  readonly #selector = new TopSelector();
  /** Top predictions of all videos so far. */
  readonly #predictions = new PredictionList();
  /** `[classes] uint8`: 1 at the true classes of the current video, else 0. */
  readonly #isLabel: Uint8Array;
  /**
   * Sums over the videos so far, under their names in partial results: a new name needs a new FORMAT_VERSION of passes/partial-state.ts. `positives`:
   * `[classes]`, the number of true labels of each class.
   */
  readonly sums: Readonly<Record<"videos" | "videos_without_labels" | "hit_at_one" | "perr" | "loss" | "positives", Float64Array>>;

  constructor(numClasses: number, topk = 20, scores: ScoreRows | null = null, isOfSegments = false) {
    this.numClasses = numClasses;
    this.isOfSegments = isOfSegments;
    this.scores = scores;
    this.topk = Math.min(topk, numClasses);
    this.#isLabel = new Uint8Array(numClasses);
    const positives = new Float64Array(numClasses);
    this.sums = { videos: sum(), videos_without_labels: sum(), hit_at_one: sum(), perr: sum(), loss: sum(), positives };
  }

  /** Bytes of predictions added since the last `take`. The predictions and `sums` are the complete state, which can be saved and restored. */
  get length(): number {
    return this.#predictions.untakenBytes;
  }

  /** Returns the predictions added since the last call, 8 bytes each. */
  take(): Uint8Array {
    return this.#predictions.take();
  }

  /** Restores predictions from `take`, in order, before any video is added. */
  put(bytes: Uint8Array): void {
    this.#predictions.put(bytes);
  }

  /**
   * Adds videos: `predictions` is `[videos, classes] float32`, `labels` the true classes of each, `lossSum` the sum of their losses. `rated`: the rated
   * classes of each segment; all of them count, and no others, as if their predictions were 0 (google/youtube-8m, eval.py). Throws NOT_FINITE if a prediction
   * is NaN, BAD_LABELS if a label is not a class.
   */
  add(predictions: Float32Array, labels: readonly Int32Array[], lossSum = Number.NaN, rated?: readonly Int32Array[]): void {
    if (predictions.length !== labels.length * this.numClasses) {
      throw new RangeError(`${labels.length} videos of ${this.numClasses} classes do not make ${predictions.length} predictions`);
    }
    for (let video = 0; video < labels.length; video++) {
      const start = video * this.numClasses;
      if (rated === undefined) this.#addVideo(predictions, start, labels[video] as Int32Array);
      else this.#addSegment(predictions.subarray(start, start + this.numClasses), labels[video] as Int32Array, rated[video] as Int32Array);
    }
    this.scores?.add(predictions, labels);
    this.#addTo("loss", lossSum);
  }

  /**
   * Adds a video by its top predictions only: other classes count as never predicted, and the loss becomes NaN. Throws BAD_LABELS if a label is not a class.
   */
  addRanked({ scores, classes }: Top, labels: Int32Array): void {
    this.#addSelected(scores, classes, scores.length, labels);
    this.#addTo("loss", Number.NaN);
  }

  /** Returns the metrics of everything added so far; more may be added afterwards. */
  result(): Metrics {
    return this.#metrics(this.#predictions.rank(this.numClasses));
  }

  /** Returns the metrics and the curves of everything added so far. */
  analyze(): { readonly metrics: Metrics; readonly curves: Curves } {
    const ranking = this.#predictions.rank(this.numClasses);
    const positives = this.sums.positives.reduce((sum, count) => sum + count, 0);
    return { metrics: this.#metrics(ranking), curves: computeCurves(ranking, this.#predictions.sortedScores(), positives) };
  }

  #metrics(ranking: Uint32Array): Metrics {
    const { positives } = this.sums;
    const { pooled, perClass } = averagePrecisions(ranking, positives);
    const [videos, unlabeled, hitAtOne, perr, loss] = (["videos", "videos_without_labels", "hit_at_one", "perr", "loss"] as const).map(
      (name) => this.sums[name][0],
    ) as [number, number, number, number, number];
    return {
      hit_at_one: hitAtOne / videos,
      perr: perr / videos,
      gap: pooled,
      map: perClass.reduce((sum, ap) => sum + ap, 0) / this.numClasses,
      loss: loss / videos,
      videos,
      videos_without_labels: unlabeled,
      aps: perClass,
      ...(this.isOfSegments ? { segments: rankSegments(ranking, positives) } : {}),
    };
  }

  #addVideo(predictions: Float32Array, start: number, labels: Int32Array): void {
    // PERR needs as many ranks as there are labels, the other metrics `topk`.
    const selected = this.#selector.select(predictions, start, this.numClasses, Math.max(this.topk, labels.length));
    this.#addSelected(this.#selector.scores, this.#selector.classes, selected, labels);
  }

  #addSegment(predictions: Float32Array, labels: Int32Array, rated: Int32Array): void {
    const scores = Float32Array.from(rated, (c) => predictions[c] as number);
    const top = this.#selector.selectRow(scores, 0, rated.length, rated.length);
    const classes = top.classes.map((i) => rated[i] as number);
    this.#addSelected(top.scores, classes, rated.length, labels, rated.length);
  }

  /** Adds a video by the first `selected` of its ranked predictions, and stores `stored` of them. */
  #addSelected(scores: Float32Array, classes: Int32Array, selected: number, labels: Int32Array, stored = this.topk): void {
    this.#markLabels(labels);
    let equalRecallHits = 0;
    for (let rank = 0; rank < selected; rank++) {
      const c = classes[rank] as number;
      const score = scores[rank] as number;
      const hit = this.#isLabel[c] as number;
      // eval_util.py ignores predictions of exactly 0.
      if (rank < labels.length && score > 0) equalRecallHits += hit;
      if (rank < stored) this.#predictions.add(score, c, hit);
    }
    if (selected > 0) this.#addTo("hit_at_one", this.#isLabel[classes[0] as number] as number);
    if (labels.length > 0) this.#addTo("perr", equalRecallHits / labels.length);
    for (const label of labels) this.#isLabel[label] = 0;
    if (labels.length === 0) this.#addTo("videos_without_labels", 1);
    this.#addTo("videos", 1);
  }

  #addTo(name: Exclude<keyof MetricsAccumulator["sums"], "positives">, value: number): void {
    const sum = this.sums[name];
    sum[0] = (sum[0] as number) + value;
  }

  #markLabels(labels: Int32Array): void {
    for (const label of labels) {
      if (label < 0 || label >= this.numClasses) {
        throw new NextvladError("BAD_LABELS", "a label is not one of the model's classes", {
          expected: `0 to ${this.numClasses - 1}`,
          found: label,
          remedy: "use weights that were trained on these classes",
        });
      }
    }
    for (const label of labels) {
      this.#isLabel[label] = 1;
      this.sums.positives[label] = (this.sums.positives[label] as number) + 1;
    }
  }
}

/** `ranking`, `positives`: as of `averagePrecisions`. */
function rankSegments(ranking: Uint32Array, positives: Float64Array): SegmentRanking {
  const { perClass } = averagePrecisions(ranking, positives, MAX_RANKED_SEGMENTS);
  const ranked = perClass.filter((_, c) => (positives[c] as number) > 0);
  return { map_at_k: ranked.reduce((sum, ap) => sum + ap, 0) / ranked.length, k: MAX_RANKED_SEGMENTS, classes: ranked.length };
}

/** Average precision over all predictions (`pooled`) and for each class. */
interface AveragePrecisions {
  readonly pooled: number;
  /** `[classes] float64`; 0 for a class without positives. */
  readonly perClass: Float64Array;
}

/**
 * Computes the non-interpolated average precision: ranks predictions by descending score, sums the precision at each hit, and divides by the number of true
 * labels, including those that were never predicted (google/youtube-8m, average_precision_calculator.py). `ranking`: see `PredictionList.rank`; `positives`:
 * `[classes] float64`, the number of true labels of each class.
 * The predictions of a class keep their order in the pooled ranking, so one pass over it serves all classes. `maxRank`: the number of first predictions of each
 * class that count.
 */
function averagePrecisions(ranking: Uint32Array, positives: Float64Array, maxRank = Number.POSITIVE_INFINITY): AveragePrecisions {
  const perClass = new Float64Array(positives.length);
  const seen = new Float64Array(positives.length);
  const found = new Float64Array(positives.length);
  let pooled = 0;
  let pooledFound = 0;
  for (let rank = 0; rank < ranking.length; rank++) {
    const tag = ranking[rank] as number;
    const c = tag >>> 1;
    const rankInClass = (seen[c] as number) + 1;
    seen[c] = rankInClass;
    if ((tag & 1) === 0 || rankInClass > maxRank) continue;
    const foundInClass = (found[c] as number) + 1;
    found[c] = foundInClass;
    perClass[c] = (perClass[c] as number) + foundInClass / rankInClass;
    pooledFound++;
    pooled += pooledFound / (rank + 1);
  }
  let total = 0;
  for (let c = 0; c < positives.length; c++) {
    const count = positives[c] as number;
    total += count;
    if (count > 0) perClass[c] = (perClass[c] as number) / count;
  }
  return { pooled: total > 0 ? pooled / total : 0, perClass };
}
