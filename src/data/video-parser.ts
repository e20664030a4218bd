import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { showText, showValue } from "../base/shown-value.js";
import type { TfRecord } from "../formats/containers/tfrecord.js";
import { type Allocate, allocateUnpooled, type FrameList } from "../formats/protobuf/feature-list.js";
import { decodeText } from "../formats/protobuf/reader.js";
import { type ContextFeature, parseSequenceExample, type SequenceExample } from "../formats/protobuf/sequence-example.js";
import { ratedSegments, SEGMENT_LABELS } from "./segments.js";
import { checkVideo, type FoundVideo, makeVideo, type Video, type VideoPlace, type VideoShape } from "./video.js";

const WRITE_ID =
  'write the ID into the context of each SequenceExample as bytes: context.feature["id"].bytes_list.value.append(b"my-video-0001")';
const FRAME_LEVEL = "download YouTube-8M's frame-level shards: 2/frame/train, 2/frame/validate and 2/frame/test";

/** Maximum number of feature lists named in an error. */
const NAMED_LISTS = 8;

/**
 * Parses a record of YouTube-8M's frame-level format: context features `id` (or `video_id`) and `labels`, and one feature list each for rgb and audio. Copies
 * the frames into memory from `allocate`. With `segments` "rated", also its rated segments. Throws BAD_FORMAT if the record is not a SequenceExample,
 * BAD_VIDEO if the ID or the frames are missing or the frames have the wrong size or number, and BAD_LABELS if the labels are invalid.
 */
export function parseVideo(record: TfRecord, shape: VideoShape, allocate: Allocate = allocateUnpooled): Video {
  const { found, place, example } = findVideo(record, shape, allocate);
  const video = makeVideo(checkVideo(found, shape, place));
  if (shape.segments !== "rated") return video;
  return { ...video, segments: ratedSegments(example, { ...shape, frames: video.frames }, place) };
}

/** The parts of a record that make up a video, not yet checked by `checkVideo`. */
interface VideoRecord {
  readonly found: FoundVideo<FrameList>;
  /** Location of the video, for errors. */
  readonly place: VideoPlace;
  /** The record, for `ratedSegments`. */
  readonly example: SequenceExample;
  /** Whether the record has segment labels (YouTube-8M 2019). */
  readonly hasSegments: boolean;
}

/** Extracts a video from a record, unchecked. With `maxFrames` 0, frames are counted but not copied. Throws BAD_FORMAT, BAD_VIDEO, BAD_LABELS. */
export function findVideo(record: TfRecord, shape: VideoShape, allocate: Allocate = allocateUnpooled): VideoRecord {
  const recordPlace = { file: record.file, record: record.record, byteOffset: record.byteOffset };
  const wanted = shape.featureNames.filter((_, i) => shape.featureSizes[i] !== 0);
  const example = parseSequenceExample(record.data, recordPlace, { listNames: wanted, maxFrames: shape.maxFrames, allocate });
  assertFrameLevel(example, recordPlace);
  const id = readId(example, recordPlace);
  const place = { ...recordPlace, video: id };
  const { featureNames: names, featureSizes: sizes } = shape;
  const features = [featureOf(example, names[0], sizes[0], place), featureOf(example, names[1], sizes[1], place)] as const;
  if (example.frameLists.size === 0 && example.listNames.length > 0 && sizes.every((size) => size === null)) {
    const what = `the video has no feature list named ${names.map((name) => showText(name)).join(" or ")}`;
    const remedy = "name those to read, as in readShard(path, { featureNames: ['rgb', 'audio_embedding'] })";
    throw new NextvladError("BAD_VIDEO", what, { ...place, found: listOf(example.listNames), remedy });
  }
  return { found: { id, features, labels: labelsOf(example, place) }, place, example, hasSegments: example.context.has(SEGMENT_LABELS) };
}

/** Throws BAD_VIDEO if the record is a video-level Example. */
export function assertFrameLevel({ context, listNames }: SequenceExample, place: VideoPlace): void {
  if (listNames.length > 0 || !(context.has("mean_rgb") || context.has("mean_audio"))) return;
  throw new NextvladError("BAD_VIDEO", "this is a video-level Example; this tool needs frame-level SequenceExamples", {
    ...place,
    expected: "feature lists",
    found: listOf([...context.keys()]),
    remedy: FRAME_LEVEL,
  });
}

/** Returns the ID from the context. Throws BAD_VIDEO if it is missing or not bytes. */
export function readId({ context }: SequenceExample, place: VideoPlace): string {
  const feature = context.get("id") ?? context.get("video_id");
  const bytes = feature?.kind === "bytes" ? feature.values[0] : undefined;
  if (bytes !== undefined) return decodeText(bytes);
  throw new NextvladError("BAD_VIDEO", "the video has no ID", {
    ...place,
    expected: "a context feature id or video_id of bytes",
    found: describeContext(context),
    remedy: WRITE_ID,
    // An ID under another name is a mistake in the whole data set, not a corrupt record.
    ...(context.size === 0 ? { damaged: "record" } : {}),
  });
}

/** Returns the feature list `name`. Throws BAD_VIDEO if it is missing and required (`size` is neither 0 nor null). */
function featureOf(
  { frameLists, listNames }: SequenceExample,
  name: string,
  size: number | null,
  place: VideoPlace,
): FrameList | undefined {
  const list = frameLists.get(name);
  if (list !== undefined || size === 0 || size === null) return list;
  throw new NextvladError("BAD_VIDEO", `the video has no feature list named ${showText(name)}`, {
    ...place,
    found: listOf(listNames),
    remedy:
      "set MODEL.feature_names to the names that the shard has, as in --set 'MODEL.feature_names=[rgb, audio_embedding]', or the feature's size to 0 to ignore it",
  });
}

/** Returns the labels from the context; undefined if there are none. Throws BAD_LABELS if they are not integers. */
export function labelsOf({ context }: SequenceExample, place: VideoPlace, key = "labels"): readonly number[] | undefined {
  const feature: ContextFeature = context.get(key) ?? { kind: "none" };
  if (feature.kind === "none") return undefined;
  if (feature.kind === "int64") return feature.values;
  const remedy = "write class indices from 0 as int64 values of the context feature labels";
  throw new NextvladError("BAD_LABELS", "the labels are not integers", { ...place, expected: "int64", found: feature.kind, remedy });
}

/** Formats a context for an error: the names of its features, or the type of an ID that is not bytes. */
function describeContext(context: SequenceExample["context"]): string {
  const ids = ["id", "video_id"].filter((name) => context.has(name));
  if (ids.length === 0) return listOf([...context.keys()]);
  return ids.map((name) => `"${name}" of type ${context.get(name)?.kind}`).join(", ");
}

const MAX_NAME_LENGTH = 40;

/** Formats the first names of a list for an error. */
export function listOf(names: readonly string[]): string {
  if (names.length === 0) return "none";
  return listFirst(
    names.map((name) => showValue(name, MAX_NAME_LENGTH)),
    { shown: NAMED_LISTS },
  );
}
