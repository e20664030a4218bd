import { NextvladError } from "../base/errors.js";
import type { Config } from "../config/schema.js";
import type { EvalFlags, InferFlags, TrainFlags } from "./flags.js";

/** Throws BAD_CONFIG if segments are trained with a setting that applies to whole videos only, and what `assertNoFullRanking` throws. */
export function assertTrainsSegments(config: Config, flags: Pick<TrainFlags, "fullRanking">): void {
  const { MODEL, TRAIN } = config;
  if (!MODEL.segments) return;
  assertNoFullRanking(config, flags);
  const settings: readonly [key: string, isSet: boolean, expected: string, why: string][] = [
    ["TRAIN.mixup", TRAIN.mixup > 0, "0", "the ratings of two segments are of different classes"],
    ["TRAIN.teacher", TRAIN.teacher !== null, "null", "a teacher's results have no ratings"],
    ["TRAIN.class_balance", TRAIN.class_balance, "False", "it counts the labels of videos"],
    ["TRAIN.lr_schedule", TRAIN.lr_schedule === "cosine", "step", "the number of segments of an epoch is not known in advance"],
  ];
  for (const [key, isSet, expected, why] of settings) {
    if (!isSet) continue;
    const remedy = `set ${key} to ${expected}, or MODEL.segments to False`;
    throw new NextvladError("BAD_CONFIG", `segments cannot be trained with this setting: ${why}`, { key, expected, remedy });
  }
}

/** Throws BAD_USAGE for the full ranking of segments, whose labels are known for the rated classes only. */
export function assertNoFullRanking({ MODEL }: Config, { fullRanking }: Pick<EvalFlags, "fullRanking">): void {
  if (!MODEL.segments || fullRanking !== true) return;
  const remedy = "omit --full-ranking: the metrics of segments rank all rated segments of each class (MAP@K)";
  throw new NextvladError("BAD_USAGE", "segments have no full ranking, because most of their classes are not rated", {
    key: "--full-ranking",
    remedy,
  });
}

/** Returns the classes of `--segment-classes`; null for all. Throws BAD_USAGE without segments, and what `readSegmentClasses` throws. */
export async function findSegmentClasses(
  { MODEL }: Config,
  { segmentClasses }: Pick<InferFlags, "segmentClasses">,
): Promise<Int32Array | null> {
  if (segmentClasses === undefined) return null;
  if (!MODEL.segments) {
    const remedy = "add --segments, or omit the flag";
    throw new NextvladError("BAD_USAGE", "the flag needs segments", { key: "--segment-classes", remedy });
  }
  const { readSegmentClasses } = await import("../results/segment-lists.js");
  return readSegmentClasses(segmentClasses, MODEL.num_classes);
}
