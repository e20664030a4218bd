import { NextvladError } from "../base/errors.js";
import { SEGMENT_FRAMES } from "../config/segments.js";
import type { ContextFeature, SequenceExample } from "../formats/protobuf/sequence-example.js";
import type { Segment, SegmentMode, Video, VideoPlace } from "./video.js";

/** Context features of a video's segments, one value of each per rating: https://research.google.com/youtube8m/download.html */
export const SEGMENT_LABELS = "segment_labels";
const SEGMENT_STARTS = "segment_start_times";
const SEGMENT_ENDS = "segment_end_times";
const SEGMENT_SCORES = "segment_scores";

/**
 * Returns the rated segments of a record by their start; none if it has no ratings. If a class of a segment is rated twice, the last rating counts, as in
 * google/youtube-8m (segment_eval_inference.py). `frames`: the number of frames of the video that are kept, at most `maxFrames`. Throws BAD_LABELS if the ratings are invalid.
 */
export function ratedSegments(
  { context }: Pick<SequenceExample, "context">,
  { frames, maxFrames, numClasses }: { readonly frames: number; readonly maxFrames: number; readonly numClasses: number },
  place: VideoPlace,
): readonly Segment[] {
  const labels = valuesOf(context.get(SEGMENT_LABELS), SEGMENT_LABELS, ["int64"], place);
  const starts = valuesOf(context.get(SEGMENT_STARTS), SEGMENT_STARTS, ["int64"], place);
  const scores = valuesOf(context.get(SEGMENT_SCORES), SEGMENT_SCORES, ["float", "int64"], place);
  const ends = context.has(SEGMENT_ENDS) ? valuesOf(context.get(SEGMENT_ENDS), SEGMENT_ENDS, ["int64"], place) : null;
  for (const [name, { length }] of [
    [SEGMENT_STARTS, starts],
    [SEGMENT_SCORES, scores],
    [SEGMENT_ENDS, ends ?? labels],
  ] as const) {
    if (length !== labels.length)
      throw invalid(`${name} and ${SEGMENT_LABELS} have different lengths`, place, `${labels.length} values`, length);
  }
  const ratings = new Map<number, Map<number, number>>();
  for (const [i, label] of labels.entries()) {
    const [start, score] = [starts[i] as number, scores[i] as number];
    const end = ends?.[i] ?? start + SEGMENT_FRAMES;
    if (label < 0 || label >= numClasses)
      throw invalid("the label of a segment is not one of the model's classes", place, `0 to ${numClasses - 1}`, label);
    if (start >= frames && frames === maxFrames) throw startsAfterCut(place, maxFrames, start);
    if (start < 0 || start >= frames) throw invalid("a segment starts outside of the video", place, `0 to ${frames - 1}`, start);
    if (end !== start + SEGMENT_FRAMES)
      throw invalid("a segment does not have 5 seconds", place, `an end at ${start + SEGMENT_FRAMES}`, end);
    if (Number.isNaN(score)) throw invalid("the score of a segment is NaN", place, "0 or 1", score);
    const ofSegment = ratings.get(start) ?? new Map<number, number>();
    ratings.set(start, ofSegment.set(label, score));
  }
  return [...ratings.keys()]
    .sort((a, b) => a - b)
    .map((start) => {
      const ofSegment = [...(ratings.get(start) ?? [])].sort(([a], [b]) => a - b);
      const rated = Int32Array.from(ofSegment, ([label]) => label);
      return {
        start,
        rated,
        labels: Int32Array.from(
          ofSegment.filter(([, score]) => score > 0),
          ([label]) => label,
        ),
      };
    });
}

function valuesOf(
  feature: ContextFeature | undefined,
  name: string,
  kinds: readonly ("int64" | "float")[],
  place: VideoPlace,
): readonly number[] {
  if (feature === undefined || feature.kind === "none") return [];
  if ((feature.kind === "int64" || feature.kind === "float") && kinds.includes(feature.kind)) return feature.values;
  throw invalid(`${name} has values of another type`, place, kinds.join(" or "), feature.kind);
}

function startsAfterCut(place: VideoPlace, maxFrames: number, start: number): NextvladError {
  return new NextvladError("BAD_LABELS", "a segment starts after the frames of the video that are read", {
    ...place,
    key: "MODEL.max_frames",
    expected: `0 to ${maxFrames - 1}`,
    found: start,
    remedy: "raise MODEL.max_frames (YouTube-8M's videos have up to 300 frames)",
  });
}

function invalid(what: string, place: VideoPlace, expected: string, found: string | number): NextvladError {
  const remedy = "download the shard again, or write it as https://research.google.com/youtube8m/download.html describes";
  return new NextvladError("BAD_LABELS", what, { ...place, expected, found, remedy });
}

/**
 * Returns the segments of a video as clips: videos of at most 5 frames, with the ID `{video}:{start}` as in google/youtube-8m (inference.py), whose features
 * are views of the video's. The last segment of a video may be shorter.
 */
export function clipsOf(video: Video, mode: SegmentMode): readonly Video[] {
  if (mode === "rated") return (video.segments ?? []).map(({ start, rated, labels }) => ({ ...clipAt(video, start), rated, labels }));
  return Array.from({ length: Math.ceil(video.frames / SEGMENT_FRAMES) }, (_, i) => ({
    ...clipAt(video, i * SEGMENT_FRAMES),
    labels: NO_LABELS,
  }));
}

const NO_LABELS = new Int32Array(0);

function clipAt({ id, frames, rgb, audio }: Video, start: number): Pick<Video, "id" | "frames" | "rgb" | "audio"> {
  const end = Math.min(frames, start + SEGMENT_FRAMES);
  const part = (bytes: Uint8Array): Uint8Array => bytes.subarray((start * bytes.length) / frames, (end * bytes.length) / frames);
  return { id: `${id}:${start}`, frames: end - start, rgb: part(rgb), audio: part(audio) };
}
