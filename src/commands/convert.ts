import { resolve } from "node:path";
import { NextvladError } from "../base/errors.js";
import { chooseThreads } from "../base/threads.js";
import type { ConvertOutcome } from "../conversion/convert.js";
import type { ConversionPlan } from "../conversion/plan.js";
import type { ConvertFlags } from "./flags.js";
import { printResult } from "./output.js";
import { runIn } from "./run.js";

/** `nextvlad convert`: prints a summary and the path of the shard list; returns the exit code. */
export async function runConvert(flags: ConvertFlags): Promise<number> {
  checkFlags(flags);
  const { outcome, exitCode } = await runIn(
    flags.out,
    { name: "convert.log.jsonl", quiet: flags.quiet },
    async ({ telemetry, signal, onSaveRequest }) => {
      onSaveRequest(() => telemetry.log.info("each shard is saved when it is complete: there is nothing else to save"));
      const plan = await createPlan(flags);
      const { convert } = await import("../conversion/convert.js");
      const workers = flags.workers ?? chooseThreads(null, (message) => telemetry.log.warn(message)).count;
      return convert(plan, { out: flags.out, workers, overwrite: flags.overwrite ?? false, signal, telemetry });
    },
  );
  await printResult(flags, toJson(outcome), formatOutcome(outcome));
  return exitCode;
}

async function createPlan(flags: ConvertFlags): Promise<ConversionPlan> {
  const { planOwnFeatures, planShards } = await import("../conversion/plan.js");
  const options = { out: flags.out, format: flags.to, maxFrames: flags.maxFrames, maxRecordBytes: flags.maxRecordBytes };
  if (flags.filelist !== undefined) {
    const { featureNames, featureDtype: dtype, rgbRange, audioRange } = flags;
    return planShards(flags.filelist, { ...options, featureNames, dtype, ranges: [rgbRange, audioRange] });
  }
  const ownFeature = (pattern: string | undefined, range: readonly [number, number]) =>
    pattern === undefined ? null : { pattern: resolve(pattern), range };
  const features = [ownFeature(flags.rgb, flags.rgbRange), ownFeature(flags.audio, flags.audioRange)] as const;
  return planOwnFeatures(flags.csv ?? "", { ...options, features, videosPerShard: flags.videosPerShard });
}

/** Throws BAD_USAGE for flags that are missing or cannot be combined. */
function checkFlags({ filelist, csv, rgb, audio, featureDtype, maxRecordBytes }: ConvertFlags): void {
  const reject = (key: string, what: string, remedy: string): never => {
    throw new NextvladError("BAD_USAGE", what, { key, remedy });
  };
  if ((filelist === undefined) === (csv === undefined)) {
    reject(
      "--filelist, --csv",
      "exactly one of the two is required",
      "pass shards with --filelist, or a label table of your own features with --csv",
    );
  }
  const patterns = [["--rgb", rgb] as const, ["--audio", audio] as const].filter(([, pattern]) => pattern !== undefined);
  const [first] = patterns;
  if (csv === undefined && first !== undefined)
    reject(first[0], "shards already contain features", "remove it, or pass a label table with --csv");
  if (csv !== undefined && maxRecordBytes !== undefined) {
    reject("--max-record-bytes", "feature files have no records", "remove it: it applies only to --filelist");
  }
  if (csv !== undefined && featureDtype !== undefined) {
    reject("--feature-dtype", "feature files store their dtype", "remove it: it applies only to --filelist");
  }
  if (csv !== undefined && first === undefined) {
    reject("--rgb, --audio", "at least one of the two is required", "pass the feature files, such as --rgb 'features/{id}.npy'");
  }
  for (const [key, pattern] of patterns) {
    if (!pattern?.includes("{id}"))
      reject(key, "the pattern does not contain {id}", `write {id} in place of the video's ID, such as ${key} 'features/{id}.npy'`);
  }
}

function toJson({ stopped, videos, shardsConverted, shardsUpToDate, sizes, statistics, cutVideos, list }: ConvertOutcome) {
  const [rgb, audio] = statistics.map(({ min, max, values, clipped }) => (values === 0 ? null : { min, max, values, clipped }));
  return {
    stopped,
    videos,
    shards_converted: shardsConverted,
    shards_up_to_date: shardsUpToDate,
    video_feature_size: sizes?.[0] ?? null,
    audio_feature_size: sizes?.[1] ?? null,
    quantized: { rgb, audio },
    truncated_videos: cutVideos,
    list,
  };
}

function formatOutcome({
  stopped,
  videos,
  shardsConverted,
  shardsUpToDate,
  sizes,
  statistics,
  cutVideos,
  list,
}: ConvertOutcome): readonly string[] {
  const upToDate = shardsUpToDate > 0 ? `,\tup to date: ${shardsUpToDate}` : "";
  const lines = [`[CONVERT] convert ${stopped ? "stopped" : "finished"}. \tvideos: ${videos},\tshards: ${shardsConverted}${upToDate}`];
  for (const [i, name] of ["rgb", "audio"].entries()) {
    const { min, max, values, clipped } = statistics[i] as (typeof statistics)[0];
    if (values > 0)
      lines.push(`${name}: values from ${format(min)} to ${format(max)}, ${percent(clipped / values)} of them outside --${name}-range`);
  }
  if (cutVideos > 0) lines.push(`truncated to the shorter of rgb and audio, which differed by one frame: ${cutVideos} videos`);
  if (sizes !== null) lines.push(`model: --set MODEL.video_feature_size=${sizes[0]} --set MODEL.audio_feature_size=${sizes[1]}`);
  lines.push(list === null ? "run the command again to continue" : `list: ${list}`);
  return lines;
}

function format(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function percent(share: number): string {
  return `${share > 0 && share < 0.0001 ? "less than 0.01" : Number((100 * share).toFixed(2))} %`;
}
