import { createHash } from "node:crypto";
import { decodeBytes, encodeBytes, escapeBytes } from "../base/byte-text.js";
import { fileError, NextvladError, type SerializedError, serializeError } from "../base/errors.js";
import { openInput, readFully } from "../base/input.js";
import { groupErrors } from "../base/problem-list.js";
import { MAX_FILE_PROBLEMS, tooManyProblems } from "../data/corrupt-records.js";
import { readPickleShard } from "../data/pickle-shard.js";
import { SEGMENT_LABELS } from "../data/segments.js";
import { isPickle, readUnframedExample } from "../data/shard-reader.js";
import { ANY_SHAPE, type Video } from "../data/video.js";
import { compressionOf, readTfRecordFile, type TfRecord } from "../formats/containers/tfrecord.js";
import type { FeatureListSummary, FrameList } from "../formats/protobuf/feature-list.js";
import { describeSequenceExample, parseSequenceExample, type SequenceExample } from "../formats/protobuf/sequence-example.js";

/** Maximum number of problems that are stored to be reported by kind; further ones are only counted. */
const MAX_LISTED_PROBLEMS = 1000;
const MAX_ID_LENGTH = 255;
const MAX_FREQUENT_LABELS = 20;
const MAX_FRAME_BINS = 10;

/**
 * Inspects a shard without assuming sizes or classes. Throws FILE_MISSING, FILE_UNREADABLE, NOT_TFRECORD, and the errors of a corrupt pickle; corrupt data in a
 * TFRecord file is reported in the result.
 */
export async function inspectShard(path: string, maxRecordBytes?: number) {
  const { size, compression } = await statShard(path);
  const content = new ShardContent();
  const container = await inspectContent(path, content, maxRecordBytes);
  return { file: path, size_bytes: size, container, compression, ...content.summary() };
}

async function inspectContent(
  path: string,
  content: ShardContent,
  maxRecordBytes: number | undefined,
): Promise<"pickle" | "SequenceExample" | "TFRecord"> {
  if (await isPickle(path)) {
    for await (const { video } of readPickleShard(path, { ...ANY_SHAPE, maxRecordBytes })) content.addVideo(video);
    return "pickle";
  }
  const example = await readUnframedExample(path, maxRecordBytes);
  if (example === null) await inspectRecords(path, content, maxRecordBytes);
  else content.add(example);
  return example === null ? "TFRecord" : "SequenceExample";
}

async function inspectRecords(path: string, content: ShardContent, maxRecordBytes: number | undefined): Promise<void> {
  try {
    for await (const record of readTfRecordFile(path, { onBadData: (error) => content.addProblem(error), maxRecordBytes })) {
      try {
        content.add(record);
      } catch (error) {
        content.addProblem(error);
      }
    }
  } catch (error) {
    if (!(error instanceof NextvladError) || error.code !== "CORRUPT_RECORD") throw error;
    content.addEnd(error);
  }
}

/** Result of `inspectShard`. */
export type ShardInspection = Awaited<ReturnType<typeof inspectShard>>;

async function statShard(path: string): Promise<{ size: number; compression: "none" | "gzip" | "zlib" }> {
  try {
    const handle = await openInput(path);
    try {
      const head = new Uint8Array(64);
      const length = await readFully(handle, head, 0);
      const { size } = await handle.stat();
      return { size, compression: compressionOf(head.subarray(0, length)) ?? "none" };
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/** Kind of a message. frame: SequenceExample with feature lists; video: Example with a video's mean_rgb or mean_audio; other: neither. */
type Level = "frame" | "video" | "other";

function levelOf(context: SequenceExample["context"], lists: ReadonlyMap<string, FeatureListSummary>): Level {
  if (lists.size > 0) return "frame";
  return context.has("mean_rgb") || context.has("mean_audio") ? "video" : "other";
}

/** Statistics of a feature list over a shard. */
interface ListStatistics {
  readonly videos: number;
  /** Number of videos by the type of the list. */
  readonly types: Readonly<Record<string, number>>;
  readonly frames: { readonly min: number; readonly max: number };
  readonly sizes: { readonly min: number; readonly max: number };
}

/** Statistics of a feature's uint8 values over a shard. */
class FeatureStatistics {
  /** Number of occurrences of each byte value. */
  readonly #counts = new Float64Array(256);
  /** Number of videos by bytes per frame. */
  readonly #sizes = new Map<number, number>();
  #videos = 0;

  /** Adds a video's frames, of `frameBytes` bytes each. */
  add({ data, frameBytes }: Pick<FrameList, "data" | "frameBytes">): void {
    this.#videos++;
    this.#sizes.set(frameBytes, (this.#sizes.get(frameBytes) ?? 0) + 1);
    const lanes = LANES.fill(0);
    for (let i = 0; i < data.length; i++) increment(lanes, 256 * (i & 3) + (data[i] as number));
    for (let i = 0; i < lanes.length; i++) this.#counts[i & 255] = (this.#counts[i & 255] as number) + (lanes[i] as number);
  }

  /** Returns the statistics; mean, standard deviation, range and shares are null if there are no bytes. */
  summary() {
    const counts = Array.from(this.#counts);
    const sum = (term: (value: number) => number): number => counts.reduce((total, count, value) => total + count * term(value), 0);
    const bytes = sum(() => 1);
    const mean = sum((value) => value) / bytes;
    const hasBytes = bytes > 0;
    return {
      videos: this.#videos,
      bytes,
      /** Number of videos by bytes per frame. */
      frame_bytes: Object.fromEntries(this.#sizes),
      mean: hasBytes ? mean : null,
      standard_deviation: hasBytes ? Math.sqrt(sum((value) => (value - mean) ** 2) / bytes) : null,
      min: hasBytes ? counts.findIndex((count) => count > 0) : null,
      max: hasBytes ? counts.findLastIndex((count) => count > 0) : null,
      /** Shares of the bytes at either end of the range, where quantization clipped. */
      share_of_0: hasBytes ? (counts[0] as number) / bytes : null,
      share_of_255: hasBytes ? (counts[255] as number) / bytes : null,
      /** Number of occurrences of each value, 0 to 255. */
      histogram: counts,
    };
  }
}

/** Four counters per value, used in turn: with one, increments for runs of equal bytes would depend on each other. */
const LANES = new Uint32Array(4 * 256);

function increment(counts: Uint32Array, index: number): void {
  counts[index] = (counts[index] as number) + 1;
}

class ShardContent {
  readonly #levels: Record<Level, number> = { frame: 0, video: 0, other: 0 };
  readonly #context = new Map<string, Map<string, number>>();
  readonly #lists = new Map<string, ListStatistics>();
  #unequal: { readonly records: number; readonly first: { record: number; rgb: number; audio: number } | null } = {
    records: 0,
    first: null,
  };
  readonly #features = new Map<string, FeatureStatistics>();
  readonly #frameCounts: number[] = [];
  readonly #labelCounts = new Map<number, number>();
  readonly #ids: string[] = [];
  readonly #idsSeen = new Set<string>();
  readonly #errors: SerializedError[] = [];
  #labels = 0;
  #labeled = 0;
  readonly #segments = { videos: 0, segments: 0, classes: new Set<number>() };
  #repeatedIds = 0;
  #problems = 0;
  #records = 0;
  #bytes = 0;
  #isReadToEnd = true;

  /** Adds a record. Throws BAD_FORMAT. */
  add(record: TfRecord): void {
    this.#records++;
    this.#bytes = record.byteOffset + record.data.length + 4;
    const { context, lists } = describeSequenceExample(record.data, record);
    this.#levels[levelOf(context, lists)]++;
    for (const [key, { kind }] of context) {
      const kinds = this.#context.get(key) ?? new Map<string, number>();
      this.#context.set(key, kinds.set(kind, (kinds.get(kind) ?? 0) + 1));
    }
    this.#readId(context);
    this.#readLabels(context);
    for (const [name, list] of lists) this.#addList(name, list);
    if (lists.size > 0) this.#frameCounts.push(Math.max(...Array.from(lists.values(), ({ frames }) => frames)));
    this.#compareLengths(lists, record.record);
    const uniform = [...lists].filter(([, { isUniform }]) => isUniform).map(([name]) => name);
    const { frameLists } = parseSequenceExample(record.data, record, { listNames: uniform, maxFrames: Number.POSITIVE_INFINITY });
    for (const [name, list] of frameLists) this.#addFeature(name, list);
  }

  #addList(name: string, { type, frames, sizes: [min, max] }: Omit<FeatureListSummary, "isUniform">): void {
    const list = this.#lists.get(name) ?? { videos: 0, types: {}, frames: { min: frames, max: frames }, sizes: { min, max } };
    this.#lists.set(name, {
      videos: list.videos + 1,
      types: { ...list.types, [type]: (list.types[type] ?? 0) + 1 },
      frames: { min: Math.min(list.frames.min, frames), max: Math.max(list.frames.max, frames) },
      sizes: { min: Math.min(list.sizes.min, min), max: Math.max(list.sizes.max, max) },
    });
  }

  /** Compares the frame counts of rgb and audio, which MediaPipe names RGB/... and AUDIO/... */
  #compareLengths(lists: ReadonlyMap<string, FeatureListSummary>, record: number): void {
    const lengthOf = (prefix: string): number | undefined => [...lists].find(([name]) => name.toLowerCase().startsWith(prefix))?.[1].frames;
    const [rgb, audio] = [lengthOf("rgb"), lengthOf("audio")];
    if (rgb === undefined || audio === undefined || rgb === audio) return;
    const { records, first } = this.#unequal;
    this.#unequal = { records: records + 1, first: first ?? { record, rgb, audio } };
  }

  addVideo({ id, frames, rgb, audio, labels }: Video): void {
    this.#records++;
    this.#levels.frame++;
    this.#frameCounts.push(frames);
    for (const [name, data] of Object.entries({ rgb, audio })) {
      if (data.length === 0) continue;
      const frameBytes = data.length / frames;
      this.#addList(name, { type: "bytes", frames, sizes: [frameBytes, frameBytes] });
      this.#addFeature(name, { data, frameBytes });
    }
    this.#countId(id);
    this.#countLabels(labels);
  }

  #addFeature(name: string, list: Pick<FrameList, "data" | "frameBytes">): void {
    const statistics = this.#features.get(name) ?? new FeatureStatistics();
    this.#features.set(name, statistics);
    statistics.add(list);
  }

  #readId(context: SequenceExample["context"]): void {
    const feature = context.get("id") ?? context.get("video_id");
    const [bytes] = feature?.kind === "bytes" ? feature.values : [];
    if (bytes !== undefined) this.#countId(decodeBytes(bytes));
  }

  /** Records an ID; for a very long one, its SHA-256. */
  #countId(id: string): void {
    const key = id.length <= MAX_ID_LENGTH ? id : createHash("sha256").update(encodeBytes(id)).digest("base64");
    if (this.#idsSeen.has(key)) this.#repeatedIds++;
    this.#idsSeen.add(key);
    if (this.#ids.length < 3) this.#ids.push(escapeBytes(id));
  }

  #readLabels(context: SequenceExample["context"]): void {
    const feature = context.get("labels");
    if (feature?.kind === "int64") this.#countLabels(feature.values);
    const segments = context.get(SEGMENT_LABELS);
    if (segments?.kind !== "int64") return;
    this.#segments.videos++;
    this.#segments.segments += segments.values.length;
    for (const label of segments.values) this.#segments.classes.add(label);
  }

  #countLabels(values: Iterable<number>): void {
    const labels = new Set(values);
    if (labels.size > 0) this.#labeled++;
    this.#labels += labels.size;
    for (const label of labels) this.#labelCounts.set(label, (this.#labelCounts.get(label) ?? 0) + 1);
  }

  addProblem(error: unknown): void {
    if (!(error instanceof NextvladError)) throw error;
    if (this.#problems === MAX_FILE_PROBLEMS) throw tooManyProblems(error.details);
    // A record with an invalid checksum was not counted by `add`.
    if (error.code === "CORRUPT_RECORD") this.#records++;
    this.#problems++;
    if (this.#errors.length < MAX_LISTED_PROBLEMS) this.#errors.push(serializeError(error));
  }

  /** Records the corruption after which no more records can be found. */
  addEnd(error: NextvladError): void {
    this.#isReadToEnd = false;
    this.#problems++;
    this.#errors.push(serializeError(error));
  }

  summary() {
    const mostFrequent = [...this.#labelCounts].sort(([a, countA], [b, countB]) => countB - countA || a - b).slice(0, MAX_FREQUENT_LABELS);
    const labels = [...this.#labelCounts.keys()];
    const sorted = Float64Array.from(this.#frameCounts).sort();
    return {
      /** Number of records by level. */
      levels: this.#levels,
      records: this.#records,
      /** Size in the uncompressed TFRecord file, up to the last record that could be read. */
      record_bytes: this.#bytes,
      read_to_end: this.#isReadToEnd,
      problems: this.#problems,
      /** One message per kind of problem, and the number of problems that are not included. */
      listed: groupErrors(this.#errors).map(({ message }) => message),
      unlisted: this.#problems - this.#errors.length,
      first_ids: this.#ids,
      has_more_ids: this.#idsSeen.size > this.#ids.length,
      repeated_ids: this.#repeatedIds,
      /** Number of records with each context feature, by its kind. */
      context: Object.fromEntries(Array.from(this.#context, ([key, kinds]) => [key, Object.fromEntries(kinds)])),
      frames: sorted.length === 0 ? null : summarizeFrames(sorted),
      /** Each feature list: its types, frames per video, and frame sizes (in bytes, or numbers). */
      lists: Object.fromEntries(this.#lists),
      /** Number of records in which rgb and audio differ in length, and the first of them. */
      unequal_lengths: this.#unequal,
      /** Statistics of the lists whose frames are single bytes values of the same size. */
      features: Object.fromEntries(Array.from(this.#features, ([name, statistics]) => [name, statistics.summary()])),
      labels: {
        videos_with_labels: this.#labeled,
        labels: this.#labels,
        classes: labels.length,
        min: labels.reduce((min: number | null, label) => Math.min(min ?? label, label), null),
        max: labels.reduce((max: number | null, label) => Math.max(max ?? label, label), null),
        most_frequent: mostFrequent.map(([label, videos]) => ({ label, videos })),
      },
      /** Segment labels of YouTube-8M 2019. */
      segment_labels: {
        videos: this.#segments.videos,
        segments: this.#segments.segments,
        classes: this.#segments.classes.size,
      },
    };
  }
}

/** Summarizes frame counts. `sorted`: the frames of each video, ascending, not empty. */
function summarizeFrames(sorted: Float64Array) {
  const [min, max] = [sorted[0] as number, sorted.at(-1) as number];
  const width = Math.max(1, Math.ceil((max - min + 1) / MAX_FRAME_BINS));
  const histogram = Array.from({ length: Math.ceil((max - min + 1) / width) }, (_, bin) => {
    const from = min + bin * width;
    return { from, to: Math.min(max, from + width - 1), videos: 0 };
  });
  let total = 0;
  for (const frames of sorted) {
    total += frames;
    const bin = histogram[Math.floor((frames - min) / width)];
    if (bin !== undefined) bin.videos++;
  }
  const middle = sorted.length >>> 1;
  const median = sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
  return { total, min, median, mean: total / sorted.length, max, histogram };
}
