import { parentPort } from "node:worker_threads";
import { type SerializedError, serializeError } from "../base/errors.js";
import { readPickleShard } from "../data/pickle-shard.js";
import { isPickle, readUnframedExample } from "../data/shard-reader.js";
import { writePickleShard, writeShard } from "../data/shard-writer.js";
import { checkVideo, type FeatureBytes, makeVideo, type Video } from "../data/video.js";
import { STOP } from "../data/worker-thread.js";
import { readTfRecordFile } from "../formats/containers/tfrecord.js";
import { assertSameSizes, FEATURE_NAMES, type FeatureSizes, mergeStatistics, NO_VALUES, type ValueStatistics } from "./features.js";
import { featurePath, type OwnSource, readFeatureFile } from "./own-features.js";
import { ANY_VIDEO, RecordConverter, type ShardSource } from "./record-video.js";

/** Output format of a shard: YouTube-8M's TFRecord, or PaddleVideo's pickle. */
export type ShardFormat = "tfrecord" | "pkl";

/** One shard to write. */
export interface ConversionTask {
  readonly source: ShardSource | OwnSource;
  readonly format: ShardFormat;
  /** The shard's path. */
  readonly output: string;
  /** Maximum of `nframes` in a pickle. */
  readonly maxFrames: number;
  /** Longer records are errors; 256 MiB by default. */
  readonly maxRecordBytes?: number | undefined;
}

/** The result of converting a shard. */
export interface ConversionResult {
  readonly videos: number;
  /** Null if there are no videos. */
  readonly sizes: FeatureSizes | null;
  /** Statistics of the quantized values: rgb, audio. */
  readonly statistics: readonly [ValueStatistics, ValueStatistics];
  /** Videos truncated to their shorter modality, which had one frame fewer. */
  readonly cutVideos: number;
  /** Videos with segment labels, which are not converted. */
  readonly segmentedVideos: number;
  /** Describes the first record that lacks one of the named feature lists, with the lists that it has, or null. */
  readonly missingList: string | null;
  /** Number of videos whose ID, from MediaPipe's keys, an earlier video in the shard has too. */
  readonly repeatedIds: number;
}

/** A message from the worker: the outcome of a task. */
export type ConversionReply =
  | { readonly type: "done"; readonly result: ConversionResult }
  | { readonly type: "error"; readonly error: SerializedError };

// Null on the main thread, in tests.
parentPort?.on("message", async (task: ConversionTask | typeof STOP) => {
  if (task === STOP) {
    parentPort?.close();
    return;
  }
  const reply = await convertShard(task).then(
    (result): ConversionReply => ({ type: "done", result }),
    (error: unknown): ConversionReply => ({ type: "error", error: serializeError(error) }),
  );
  parentPort?.postMessage(reply);
});

/** Converts one shard, one video at a time. Throws what reading it throws, FILE_UNWRITABLE, and BAD_VIDEO if its videos differ in feature size. */
export async function convertShard({ source, format, output, maxFrames, maxRecordBytes }: ConversionTask): Promise<ConversionResult> {
  const statistics: [ValueStatistics, ValueStatistics] = [NO_VALUES, NO_VALUES];
  const converter = source.kind === "shard" ? new RecordConverter(source) : null;
  let videos = 0;
  let sizes: FeatureSizes | null = null;
  async function* checkedVideos(): AsyncGenerator<Video, void> {
    const path = source.kind === "shard" ? source.path : source.table;
    const read = source.kind === "own" ? ownVideos(source, statistics) : shardVideos(path, converter as RecordConverter, maxRecordBytes);
    for await (const video of read) {
      const found = [video.rgb.length / video.frames, video.audio.length / video.frames] as const;
      sizes ??= found;
      assertSameSizes(found, sizes, video.id, path);
      videos++;
      yield video;
    }
  }
  if (format === "pkl") await writePickleShard(output, checkedVideos(), maxFrames);
  else await writeShard(output, checkedVideos());
  const { cutVideos = 0, segmentedVideos = 0, missingList = null, repeatedIds = 0 } = converter ?? {};
  return { videos, sizes, statistics: converter?.statistics ?? statistics, cutVideos, segmentedVideos, missingList, repeatedIds };
}

async function* shardVideos(path: string, converter: RecordConverter, maxRecordBytes: number | undefined): AsyncGenerator<Video, void> {
  if (await isPickle(path)) {
    for await (const { video } of readPickleShard(path, { ...ANY_VIDEO, featureNames: FEATURE_NAMES, maxRecordBytes })) yield video;
    return;
  }
  const example = await readUnframedExample(path, maxRecordBytes);
  if (example === null) for await (const record of readTfRecordFile(path, { maxRecordBytes })) yield converter.convert(record);
  else yield converter.convert(example, true);
}

async function* ownVideos({ table, videos, features }: OwnSource, statistics: ValueStatistics[]): AsyncGenerator<Video, void> {
  for (const { id, labels } of videos) {
    const found: (FeatureBytes | undefined)[] = [];
    for (const [i, own] of features.entries()) {
      if (own === null) continue;
      const read = await readFeatureFile(featurePath(own, id), FEATURE_NAMES[i as 0 | 1], own.range);
      statistics[i] = mergeStatistics(statistics[i] as ValueStatistics, read.statistics);
      found[i] = read.feature;
    }
    yield makeVideo(
      checkVideo({ id, features: [found[0], found[1]], labels }, { ...ANY_VIDEO, featureNames: FEATURE_NAMES }, { file: table, video: id }),
    );
  }
}
