import { NextvladError } from "../base/errors.js";
import { writePickleShard } from "../data/pickle-shard-writer.js";
import { readShard } from "../data/shard.js";
import { writeShard } from "../data/shard-writer.js";
import { type FeatureBytes, makeVideo, type Video } from "../data/video.js";
import { checkVideo, type VideoShape } from "../data/video-check.js";
import { readFeatureFile } from "./feature-file.js";
import { mergeStatistics, NO_VALUES, type ValueStatistics } from "./quantise.js";
import { type ConversionResult, type ConversionTask, featurePath, type OwnSource, type ShardSource } from "./task.js";

/** A conversion takes videos as they are. */
const ANY: Omit<VideoShape, "featureNames"> = {
  maxFrames: Number.MAX_SAFE_INTEGER,
  featureSizes: [null, null],
  numClasses: 2 ** 31,
  labels: "in range",
};
const NAMES = ["rgb", "audio"] as const;

/** Makes one shard, a video at a time. Throws what reading it throws, FILE_UNWRITABLE, and BAD_VIDEO where its videos differ in feature size. */
export async function convertShard({ source, format, output, maxFrames }: ConversionTask): Promise<ConversionResult> {
  const statistics: [ValueStatistics, ValueStatistics] = [NO_VALUES, NO_VALUES];
  let videos = 0;
  let sizes: readonly [number, number] | null = null;
  async function* watched(): AsyncGenerator<Video, void> {
    for await (const video of source.kind === "shard" ? shardVideos(source) : ownVideos(source, statistics)) {
      const these = [video.rgb.length / video.frames, video.audio.length / video.frames] as const;
      sizes ??= these;
      refuseOtherSizes(these, sizes, video.id, source.kind === "shard" ? source.path : source.table);
      videos++;
      yield video;
    }
  }
  if (format === "pkl") await writePickleShard(output, watched(), maxFrames);
  else await writeShard(output, watched());
  return { videos, sizes, statistics };
}

async function* shardVideos({ path, featureNames }: ShardSource): AsyncGenerator<Video, void> {
  for await (const { video } of readShard(path, { ...ANY, featureNames })) yield video;
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
      checkVideo({ id, features: [found[0], found[1]], labels }, { ...ANY, featureNames: NAMES }, { file: table, video: id }),
    );
  }
}

/** Throws BAD_VIDEO where a video's features are of other sizes than the first one's: no model takes both. */
export function refuseOtherSizes(found: readonly number[], expected: readonly number[], video: string | undefined, file: string): void {
  for (const [i, name] of NAMES.entries()) {
    if (found[i] === expected[i]) continue;
    throw new NextvladError("BAD_VIDEO", `${name} has another feature size than in the video before`, {
      file,
      ...(video === undefined ? {} : { video }),
      expected: `${expected[i]} values a frame`,
      found: found[i] as number,
      remedy: "use features of one extractor",
    });
  }
}
