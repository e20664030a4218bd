import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { readLoneExample } from "../data/lone-example.js";
import { readPickleShard } from "../data/pickle-shard.js";
import { writePickleShard } from "../data/pickle-shard-writer.js";
import { isPickle } from "../data/shard-reader.js";
import { writeShard } from "../data/shard-writer.js";
import { type FeatureBytes, makeVideo, type Video } from "../data/video.js";
import { checkVideo } from "../data/video-check.js";
import { readTfRecordFile } from "../formats/containers/tfrecord.js";
import { readFeatureFile } from "./feature-file.js";
import { mergeStatistics, NO_VALUES, type ValueStatistics } from "./quantise.js";
import { ANY_VIDEO, RecordConverter } from "./record-video.js";
import { type ConversionResult, type ConversionTask, featurePath, type OwnSource } from "./task.js";

const NAMES = ["rgb", "audio"] as const;

/** Converts one shard, one video at a time. Throws what reading it throws, FILE_UNWRITABLE, and BAD_VIDEO if its videos differ in feature size. */
export async function convertShard({ source, format, output, maxFrames, maxRecordBytes }: ConversionTask): Promise<ConversionResult> {
  const statistics: [ValueStatistics, ValueStatistics] = [NO_VALUES, NO_VALUES];
  const converter = source.kind === "shard" ? new RecordConverter(source) : null;
  let videos = 0;
  let sizes: readonly [number, number] | null = null;
  async function* watched(): AsyncGenerator<Video, void> {
    const path = source.kind === "shard" ? source.path : source.table;
    const read = source.kind === "own" ? ownVideos(source, statistics) : shardVideos(path, converter as RecordConverter, maxRecordBytes);
    for await (const video of read) {
      const these = [video.rgb.length / video.frames, video.audio.length / video.frames] as const;
      sizes ??= these;
      refuseOtherSizes(these, sizes, video.id, path);
      videos++;
      yield video;
    }
  }
  if (format === "pkl") await writePickleShard(output, watched(), maxFrames);
  else await writeShard(output, watched());
  const { cutVideos = 0, segmentedVideos = 0, missingList = null, repeatedIds = 0 } = converter ?? {};
  return { videos, sizes, statistics: converter?.statistics ?? statistics, cutVideos, segmentedVideos, missingList, repeatedIds };
}

async function* shardVideos(path: string, converter: RecordConverter, maxRecordBytes: number | undefined): AsyncGenerator<Video, void> {
  if (await isPickle(path)) {
    for await (const { video } of readPickleShard(path, { ...ANY_VIDEO, featureNames: NAMES, maxRecordBytes })) yield video;
    return;
  }
  const example = await readLoneExample(path, maxRecordBytes);
  if (example === null) for await (const record of readTfRecordFile(path, { maxRecordBytes })) yield converter.convert(record);
  else yield converter.convert(example, true);
}

async function* ownVideos({ table, videos, features }: OwnSource, statistics: ValueStatistics[]): AsyncGenerator<Video, void> {
  for (const { id, labels } of videos) {
    const found: (FeatureBytes | undefined)[] = [];
    for (const [i, own] of features.entries()) {
      if (own === null) continue;
      const read = await readFeatureFile(featurePath(own, id), NAMES[i as 0 | 1], own.range);
      statistics[i] = mergeStatistics(statistics[i] as ValueStatistics, read.statistics);
      found[i] = read.feature;
    }
    yield makeVideo(
      checkVideo({ id, features: [found[0], found[1]], labels }, { ...ANY_VIDEO, featureNames: NAMES }, { file: table, video: id }),
    );
  }
}

/** Throws BAD_VIDEO if a video's feature sizes differ from those of the first one: no model accepts both. */
export function refuseOtherSizes(found: readonly number[], expected: readonly number[], video: string | undefined, file: string): void {
  for (const [i, name] of NAMES.entries()) {
    if (found[i] === expected[i]) continue;
    throw new NextvladError("BAD_VIDEO", `${showText(name)} has another feature size than in the video before`, {
      file,
      ...(video === undefined ? {} : { video }),
      expected: `${expected[i]} values a frame`,
      found: found[i] as number,
      remedy: "use features of one extractor",
    });
  }
}
