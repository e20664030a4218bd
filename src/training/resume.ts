import { basename } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { findPaddleStep } from "../checkpoints/paddle-step.js";
import { type RunState, readSnapshotConfig, readSnapshotState, type WrittenBy } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import type { StartOptions } from "./options.js";

/** A run to resume. */
export interface ResumedRun {
  readonly run: RunState;
  /** What wrote the snapshot; null if unknown. */
  readonly writtenBy: WrittenBy | null;
  /** Where the state was found, for the log. */
  readonly source: string;
}

/** The config of a snapshot, which an older version may have written. */
interface SavedConfig {
  readonly TRAIN?: Record<string, unknown>;
  readonly MODEL?: Record<string, unknown>;
}

/**
 * Returns the run to resume; null if `resume` is null. Throws BAD_USAGE for conflicting flags, BAD_CONFIG if the config does not fit the run, BAD_SNAPSHOT
 * if its state is corrupt, and BAD_WEIGHTS if the step of Paddle's weights is unknown or invalid.
 */
export async function readResumedRun(config: Config, options: StartOptions): Promise<ResumedRun | null> {
  checkFlags(options);
  const { resume, resumeStep } = options;
  if (resume === null) return null;
  const { path, snapshot } = resume;
  if (snapshot === null) return readPaddleRun(resume, config.TRAIN.seed, resumeStep);
  if (resumeStep !== null) {
    const remedy = "omit the flag; it is for Paddle's weights without a step counter";
    throw new NextvladError("BAD_USAGE", "a snapshot contains its own step", { file: path, key: "--resume-step", remedy });
  }
  const { format_version, written_by: writtenBy, files, ...run } = await readSnapshotState(snapshot);
  const saved = (await readSnapshotConfig(snapshot)) as SavedConfig;
  assertResumeCompatible(config, options, snapshot, run, saved);
  logChanges(options.telemetry.log, config, saved);
  return { run: forgetOtherCount(run, config, saved), writtenBy, source: "from the snapshot's state" };
}

/** Settings that change only where and how fast a run reads and computes. */
const NEUTRAL: ReadonlySet<string> = new Set(["TRAIN.filelist", "TRAIN.num_readers", "TRAIN.use_gpu"]);

/** Logs the settings that are not those of the snapshot. */
function logChanges(log: Logger, config: Config, saved: SavedConfig): void {
  const changes = (["MODEL", "TRAIN"] as const).flatMap((section) =>
    Object.entries(config[section]).flatMap(([name, value]) => {
      const [key, before] = [`${section}.${name}`, saved[section]?.[name]];
      const isSame = before === undefined || NEUTRAL.has(key) || isDeepStrictEqual(value, before);
      return isSame ? [] : [`${key} = ${value} (was ${before})`];
    }),
  );
  if (changes.length > 0) log.info(`the run continues with other settings than the snapshot's: ${changes.join(", ")}`);
}

/** Returns the run without the number of an epoch's videos if the run counted them with another class balance. */
function forgetOtherCount(run: RunState, { TRAIN }: Config, saved: SavedConfig): RunState {
  if (run.shards === null || TRAIN.class_balance === classBalanceOf(saved)) return run;
  return { ...run, shards: { ...run.shards, videos: undefined } };
}

/** Returns `class_balance` of a snapshot's config. Older versions did not have this key. */
function classBalanceOf({ TRAIN }: SavedConfig): unknown {
  return TRAIN?.class_balance ?? false;
}

/** Throws BAD_USAGE for flags that conflict with each other. */
function checkFlags({ resume, resumeStep, pretrain }: StartOptions): void {
  if (resumeStep !== null && resume === null) {
    const remedy = "pass its checkpoint with --resume, or omit the flag";
    throw new NextvladError("BAD_USAGE", "the flag requires --resume", { key: "--resume-step", remedy });
  }
  if (resume !== null && pretrain !== null) {
    const remedy = "use --resume to continue a run, or --pretrain to start a new one from its weights";
    throw new NextvladError("BAD_USAGE", "these flags are mutually exclusive", { key: "--resume, --pretrain", remedy });
  }
}

/**
 * Returns the run of Paddle's weights: the step from `findPaddleStep`, and the number of finished epochs from a file name like NEXTVLAD_epoch5. Without such a
 * name, epochs count from 0, as in PaddleVideo.
 */
async function readPaddleRun(source: WeightSource, seed: number, resumeStep: number | null): Promise<ResumedRun> {
  const { step, origin } = await findPaddleStep(source, resumeStep);
  const number = /epoch_?(\d+)/.exec(basename(source.path))?.[1];
  const epoch = number === undefined ? 0 : Number(number) + 1;
  const epochSource =
    number === undefined ? "epochs count from 0, as in PaddleVideo, because the file name contains no epoch" : "epoch from the file name";
  const validated = epoch > 0 ? epoch - 1 : null;
  const run = { step, epoch, step_in_epoch: 0, seed, best: null, validated_epoch: validated, validated_step: step, shards: null };
  return { run, writtenBy: null, source: `step ${origin}; ${epochSource}` };
}

/**
 * Throws BAD_CONFIG if a setting has changed that a resumed run must keep, because the order of videos or the position in it depends on it; BAD_SNAPSHOT if the
 * snapshot's epoch exceeds TRAIN.epoch of its own config.
 */
function assertResumeCompatible(
  config: Config,
  { limitVideos }: StartOptions,
  snapshot: string,
  run: RunState,
  savedConfig: SavedConfig,
): void {
  const { TRAIN: saved, MODEL: savedModel } = savedConfig;
  const epochs = saved?.epoch;
  if (typeof epochs === "number" && run.epoch > epochs) {
    const values = { key: "epoch", expected: `at most TRAIN.epoch of its config, ${epochs}`, found: run.epoch };
    throw new NextvladError("BAD_SNAPSHOT", "corrupt snapshot state", { file: snapshot, ...values, remedy: "use another snapshot" });
  }
  const settings: [string, unknown, unknown][] = [["TRAIN.seed", config.TRAIN.seed, run.seed]];
  // Another decay is possible, but the averages cannot begin or end within a run.
  const [ema, savedEma] = [config.TRAIN.ema_decay, saved?.ema_decay ?? null];
  if ((ema === null) !== (savedEma === null)) settings.push(["TRAIN.ema_decay", ema, savedEma]);
  if (run.step_in_epoch > 0) {
    settings.push(["TRAIN.batch_size", config.TRAIN.batch_size, saved?.batch_size]);
    settings.push(["TRAIN.shuffle_buffer", config.TRAIN.shuffle_buffer, saved?.shuffle_buffer]);
    settings.push(["TRAIN.class_balance", config.TRAIN.class_balance, classBalanceOf(savedConfig)]);
    settings.push(["--limit-videos", limitVideos ?? "none", run.shards?.limit_videos ?? "none"]);
    settings.push(["MODEL.segments", config.MODEL.segments, savedModel?.segments ?? false]);
    // With "error", the run has met no corrupt record so far, so a new policy affects only later records.
    const policy = saved?.on_corrupt ?? "error";
    if (policy !== "error") settings.push(["TRAIN.on_corrupt", config.TRAIN.on_corrupt, policy]);
  }
  for (const [key, found, expected] of settings) {
    if (found === expected) continue;
    const remedy = "use the earlier value (a resumed run without --config uses the snapshot's config), or start a new run with --pretrain";
    const values = { expected: String(expected), found: String(found) };
    throw new NextvladError("BAD_CONFIG", "a resumed run cannot change this setting", { key, ...values, remedy });
  }
}
