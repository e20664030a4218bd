import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { writeFileAtomic } from "../base/files.js";
import { removeSnapshots, type WrittenBy } from "../checkpoints/snapshot.js";
import { CONFIG } from "../checkpoints/snapshot-layout.js";
import { formatConfig } from "../config/keys.js";
import type { Config } from "../config/schema.js";
import { assertSameShards, fingerprintList, shardContents } from "../data/shard.js";
import { modelSizes } from "../model/sizes.js";
import { startRuntime } from "../passes/start-runtime.js";
import { LossWatch } from "./loss-watch.js";
import type { TrainOptions } from "./options.js";
import { readResumedRun } from "./resume.js";
import { checkSaveDir } from "./save-dir.js";
import { Saver } from "./saver.js";
import { createState, type TrainingState } from "./state.js";
import type { StepOptions } from "./step.js";

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
  /** The config in the save-dir, if this run has created it. */
  readonly newConfigFile: string | null;
}

/**
 * Does everything that precedes the first step: checks the save-dir and the shards, loads the runtime, creates the state or resumes it, and writes the config to
 * the save-dir. Throws what these throw; then the save-dir is unchanged.
 */
export async function startTraining(config: Config, options: TrainOptions): Promise<Training> {
  const { MODEL, TRAIN } = config;
  const { saveDir, shards, telemetry, skipped, lockText, keep, saveInterval, resume } = options;
  const { log } = telemetry;
  const resumed = await readResumedRun(config, options);
  const conflictingSnapshots = await checkSaveDir(config, resumed?.run ?? null, options);
  const contents = shardContents(shards);
  const isInsideEpoch = resumed !== null && resumed.run.step_in_epoch > 0;
  const saved = isInsideEpoch ? resumed.run.shards : null;
  if (saved !== null) assertSameShards(shards, { ...fingerprintList(shards, saved.corrupt), contents }, saved);
  const { device, kernels } = await startRuntime({ config, section: "TRAIN", batchSize: TRAIN.batch_size }, log);
  const writtenBy = { nextvlad: options.version, node: process.version, tensorflow: device.tensorflowVersion, device: device.kind };
  if (resumed !== null && resumed.writtenBy !== null) warnIfRoundingDiffers(log, resumed.writtenBy, writtenBy);
  const state = await createState(config, resumed, kernels, options);
  const first_corrupt = isInsideEpoch ? saved?.first_corrupt : [];
  state.run = { ...state.run, shards: { ...fingerprintList(shards), contents, first_corrupt } };
  // Only now, after all checks at the start have passed.
  await removeSnapshots(saveDir, conflictingSnapshots);
  await skipped.start(resumed !== null);
  const losses = new LossWatch(TRAIN.on_nan, saveDir, log);
  await losses.start(resumed !== null);
  const configYaml = formatConfig(config);
  const configFile = join(saveDir, CONFIG);
  const isNew = !existsSync(configFile);
  await writeFileAtomic(configFile, configYaml);
  const [sizes, dropRate] = [modelSizes(MODEL), MODEL.drop_rate];
  const saver = new Saver(
    {
      ...{ saveDir, lockText, keep, saveInterval, configYaml, sizes, dropRate, writtenBy, telemetry },
      resumedFrom: resume?.snapshot ?? null,
      retryMs: SAVE_RETRY_MS,
      // A resumed run does not see the suspect batches again.
      beforeSave: () => losses.flush(),
    },
    state,
  );
  const { seed } = state.run;
  const stepOptions = { kernels, sizes, dropRate, l2Penalty: TRAIN.l2_penalty, gradientClip: TRAIN.gradient_clip, seed };
  return { config, options, state, stepOptions, saver, losses, newConfigFile: isNew ? configFile : null };
}

/** Warns if a run is resumed with another TensorFlow version or on another kind of device, where sums round differently. */
function warnIfRoundingDiffers(log: Logger, saved: WrittenBy, current: WrittenBy): void {
  if (saved.tensorflow === current.tensorflow && saved.device === current.device) return;
  const format = ({ tensorflow, device }: WrittenBy): string => `TensorFlow ${tensorflow} on the ${device.toUpperCase()}`;
  log.warn(`the snapshot was written by ${format(saved)}, and this is ${format(current)}: results will differ in the last digits`);
}
