import { join } from "node:path";
import { NextvladError } from "../../src/base/errors.js";
import type { Config } from "../../src/config/schema.js";
import { cliOf, ROOT } from "./checkout.js";
import { runChild } from "./child.js";
import type { NetworkTask } from "./measure.js";
import { makeShards } from "./shards.js";
import { type ProcessTiming, timeProcess } from "./whole-process.js";
import { frameRange } from "./workload.js";

/** How to make weights: the values of the weights do not affect a timing. */
export interface WeightSettings {
  /** Path of the nextvlad program. */
  readonly cli: string;
  /** Path of the config. */
  readonly config: string;
  readonly modelName: string;
  /** Values of config keys, as for --set. */
  readonly sets: readonly string[];
}

/** Trains for one step of two videos, and returns the snapshot that it writes below `folder`. */
export async function makeWeights({ cli, config, modelName, sets }: WeightSettings, folder: string, signal: AbortSignal): Promise<string> {
  const saveDir = join(folder, "weights");
  const flags = ["--config", config, "--batch-size", "2", "--use-gpu", "False", "--valid-interval", "0", "--save-dir", saveDir];
  const all = [...sets, "TRAIN.max_iter=1", "TRAIN.epoch=1"];
  await runChild(process.execPath, [cli, "train", ...flags, ...all.flatMap((set) => ["--set", set])], signal);
  return join(saveDir, `${modelName}_step1`);
}

/** nextvlad as a whole process on shards of random videos. */
export interface FromShards {
  /** Number of videos that the process computes: training drops the last, smaller batch. */
  readonly videos: number;
  readonly run: () => Promise<ProcessTiming>;
}

/**
 * Writes `videos` random videos, and weights for inference, below `folder`. Throws BAD_USAGE if the videos would be longer than the config's maximum, or fewer
 * than a batch.
 */
export async function prepareFromShards(
  { mode, config, batch, frames, precision, isa, use_gpu }: NetworkTask,
  { MODEL }: Config,
  videos: number,
  folder: string,
  signal: AbortSignal,
): Promise<FromShards> {
  const invalid = (key: string, expected: string, found: number): NextvladError =>
    new NextvladError("BAD_USAGE", "invalid value", { key, expected, found, remedy: "see --help" });
  const range = frameRange(frames);
  if (range[1] > MODEL.max_frames) throw invalid("--frames", `at most MODEL.max_frames = ${MODEL.max_frames}`, range[1]);
  if (videos < batch) throw invalid("--videos", `at least --batch = ${batch}`, videos);
  const features = { rgb: MODEL.video_feature_size, audio: MODEL.audio_feature_size };
  const settings = { videos, perShard: 100, frames: range, features, classes: MODEL.num_classes, seed: 1 };
  const list = await makeShards({ directory: join(folder, "shards"), ...settings });
  // The random shards have the default names of features, and no eigenvalues.
  const sets = ["MODEL.feature_names=[rgb, audio]", "MODEL.eigen_file=null", `TRAIN.filelist=${list}`];
  const device = ["--precision", precision, "--use-gpu", use_gpu ? "True" : "False"];
  const run = (args: readonly string[], count: number): FromShards => ({
    videos: count,
    run: () => timeProcess({ cli: cliOf(ROOT), command: mode, args: [...args, ...device], batch, videos: count, isa }, folder, signal),
  });
  if (mode === "train") {
    const epoch = [...sets, "TRAIN.epoch=1"].flatMap((set) => ["--set", set]);
    return run(["--config", config, "--valid-interval", "0", ...epoch], videos - (videos % batch));
  }
  const weights = await makeWeights({ cli: cliOf(ROOT), config, modelName: MODEL.name, sets }, folder, signal);
  return run(["--weights", weights, "--filelist", list], videos);
}
