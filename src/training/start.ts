import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { writeFileAtomic } from "../base/files.js";
import { type RunState, removeSnapshots, type WrittenBy } from "../checkpoints/snapshot.js";
import { CONFIG } from "../checkpoints/snapshot-layout.js";
import { formatConfig } from "../config/keys.js";
import type { Config } from "../config/schema.js";
import type { RepeatFactors } from "../data/class-balance.js";
import { assertSameShards, fingerprintList, type ListFingerprint, type Shard } from "../data/shard.js";
import { dropRates } from "../model/drop-rates.js";
import { modelSizes } from "../model/sizes.js";
import { startRuntime } from "../passes/start-runtime.js";
import { describeSoftware, roundingOf, roundingWarning, type TrainingRounding } from "../runtime/rounding.js";
import { EventFile } from "../telemetry/event-file.js";
import { logPhase } from "../telemetry/phases.js";
import { Scalars } from "../telemetry/scalars.js";
import { LossWatch } from "./loss-watch.js";
import type { TrainOptions } from "./options.js";
import { announce, assertSameStart, connectRanks } from "./ranks.js";
import { readResumedRun } from "./resume.js";
import { checkSaveDir } from "./save-dir.js";
import { Saver } from "./saver.js";
import { createState, type TrainingState } from "./state.js";
import { type StepOptions, stepOptions } from "./step.js";
import { Teacher } from "./teacher.js";
import { countEpochVideos, findRepeatFactors } from "./video-count.js";

/** Time between a failed write of a snapshot and the second attempt. */
const SAVE_RETRY_MS = 10_000;

/** A training run: its options, its state, and what its loop uses. */
export interface Training {
  readonly config: Config;
  readonly options: TrainOptions;
  readonly state: TrainingState;
  readonly stepOptions: StepOptions;
  readonly saver: Saver;
  readonly losses: LossWatch;
  readonly scalars: Scalars;
  /** Undefined if no video is repeated. */
  readonly repeatFactors: RepeatFactors | undefined;
  /** Path of the config in the save-dir if this run has created it, else null. */
  readonly newConfigFile: string | null;
}

/**
 * Does everything before the first step: checks the save-dir and the shards, loads the runtime, creates or resumes the state, and writes the config to the
 * save-dir. Returns null if the run is stopped before. Throws what these throw; a failed check or a stop leaves the save-dir unchanged.
 */
export async function startTraining(config: Config, options: TrainOptions): Promise<Training | null> {
  const { TRAIN, MODEL } = config;
  const { saveDir, resume } = options;
  const { log } = options.telemetry;
  const resumed = await readResumedRun(config, options);
  const conflictingSnapshots = await checkSaveDir(config, resumed?.run ?? null, options);
  const teacher = await Teacher.read(config);
  const shards = fingerprintShards(options.shards, resumed?.run ?? null);
  const { threads: given, cluster, version } = options;
  const runtime = { config, section: "TRAIN", batchSize: TRAIN.batch_size, threads: given, cluster } as const;
  const { device, kernels } = await startRuntime(runtime, log);
  const ofRank = roundingOf(device);
  const world = await connectRanks(cluster, { ...options, config, run: resumed?.run ?? null, rounding: ofRank });
  const rounding = { ...ofRank, ranks: world.size, parts: TRAIN.accumulate };
  const { software: _, ...computation } = rounding;
  const versions = { nextvlad: version, node: process.version, tensorflow: device.tensorflowVersion };
  const writtenBy = { ...versions, device: device.kind, ...computation };
  if (resumed !== null && resumed.writtenBy !== null) warnIfRoundingDiffers(log, resumed.writtenBy, rounding);
  const state = await createState(config, resumed, kernels, options, world);
  assertSameStart(world, state);
  if (TRAIN.class_balance) log.info("class balance: reading the labels of all videos");
  const repeatFactors = await findRepeatFactors(config, options.shards, options.signal);
  const videos = await countEpochVideos(config, options, resumed?.run.shards ?? null, world, repeatFactors);
  if (options.signal.aborted) {
    announce(world, "run end");
    return null;
  }
  state.run = { ...state.run, shards: { ...shards, videos: videos ?? undefined, limit_videos: options.limitVideos ?? undefined } };
  // All checks have passed: from here on, the save-dir changes.
  await removeSnapshots(saveDir, conflictingSnapshots);
  await options.skipped.start(resumed !== null);
  const losses = new LossWatch(TRAIN.on_nan, saveDir, log);
  await losses.start(resumed !== null);
  const configYaml = formatConfig(config);
  const configFile = join(saveDir, CONFIG);
  const newConfigFile = existsSync(configFile) ? null : configFile;
  await writeFileAtomic(configFile, configYaml);
  const model = { sizes: modelSizes(MODEL), dropRates: dropRates(MODEL) };
  // A resumed run does not see the suspect batches again.
  const beforeSave = (): Promise<void> => losses.flush();
  const resumedFrom = resume?.snapshot ?? null;
  const saver = new Saver({ ...options, ...model, configYaml, writtenBy, resumedFrom, retryMs: SAVE_RETRY_MS, beforeSave, world }, state);
  const scalars = new Scalars(log, new EventFile({ directory: saveDir, firstStep: state.firstStep, configYaml, log }));
  const ofSteps = stepOptions(config, state.run.seed, kernels, world, teacher);
  logPhase(log, "parameters and optimizer ready");
  return { config, options, state, stepOptions: ofSteps, saver, losses, scalars, repeatFactors, newConfigFile };
}

/** Returns what identifies the shards in snapshots. Throws BAD_CONFIG if a run resumes within an epoch with other shards than it started with. */
function fingerprintShards(shards: readonly Shard[], run: RunState | null): ListFingerprint {
  if (run === null || run.step_in_epoch === 0) return { ...fingerprintList(shards), first_corrupt: [] };
  const { shards: saved } = run;
  if (saved !== null) assertSameShards(shards, saved);
  return { ...fingerprintList(shards), first_corrupt: saved?.first_corrupt };
}

/** Warns if a run is resumed with something else that its last digits depend on (`TrainingRounding`). */
function warnIfRoundingDiffers(log: Logger, { tensorflow, device, ...computation }: WrittenBy, current: TrainingRounding): void {
  const saved = { ...computation, software: describeSoftware(tensorflow, device) };
  const warning = roundingWarning("the snapshot was written", saved, current);
  if (warning !== null) log.warn(warning);
}
