import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../base/files.js";
import { requireProcessLimits } from "../base/resource-limits.js";
import { removeSnapshots } from "../checkpoints/snapshot.js";
import { formatConfig } from "../config/keys.js";
import type { Config } from "../config/schema.js";
import { assertSameShards, fingerprintList, readContents } from "../data/shard.js";
import { prepareReading } from "../data/stream.js";
import { chooseKernels } from "../kernels/choose.js";
import { checkMemory } from "../model/memory.js";
import { modelSizes } from "../model/sizes.js";
import { formatDevice, loadTensorflow, setMatmulPrecision } from "../runtime/runtime.js";
import { LossWatch } from "./loss-watch.js";
import type { TrainOptions, TrainOutcome } from "./options.js";
import { warnOfOtherMaker } from "./report.js";
import { Saver } from "./saver.js";
import { claimSaveDir, startTrainee } from "./start.js";
import { TrainingRun } from "./training-run.js";

const SAVE_RETRY_MS = 10_000;

/**
 * Runs `nextvlad train`: trains, saves a snapshot after each epoch and at `saveInterval`, validates, and keeps the best snapshot. Ends after `epoch` epochs or
 * `max_iter` steps, or after the current step when `signal` is aborted. Throws NOT_FINITE if the loss is non-finite (see `on_nan`), and what claiming the
 * save-dir, reading, loading and writing throw.
 */
export async function train(config: Config, options: TrainOptions): Promise<TrainOutcome> {
  let run: TrainingRun | null = null;
  options.onSaveRequest(() => void run?.saveNow());
  const { resumed, inTheWay } = await claimSaveDir(config, options);
  const { shards, validShards } = options;
  const contents = await readContents(shards);
  const isInsideEpoch = resumed !== null && resumed.state.step_in_epoch > 0;
  const then = isInsideEpoch ? resumed.state.shards : null;
  if (then !== null) assertSameShards(shards, { ...fingerprintList(shards, then.corrupt), contents }, then);
  const shardList = { ...fingerprintList(shards), contents, first_corrupt: isInsideEpoch ? then?.first_corrupt : [] };
  const { telemetry } = options;
  // The reader threads, the thread that assembles batches, and the one that writes snapshots.
  requireProcessLimits({ threads: config.TRAIN.num_readers + 2, tensorflow: true }, "set TRAIN.num_readers to 1");
  prepareReading(config.TRAIN.num_readers);
  const device = await loadTensorflow(config.TRAIN.use_gpu);
  setMatmulPrecision(config.TRAIN.precision);
  telemetry.log.info(formatDevice(device));
  const { batch_size: batchSize } = config.TRAIN;
  checkMemory({ model: config.MODEL, batchSize, training: true, inHostMemory: device.inHostMemory }, (message) =>
    telemetry.log.warn(message),
  );
  const writtenBy = { nextvlad: options.version, node: process.version, tensorflow: device.tensorflowVersion, device: device.kind };
  if (resumed !== null && resumed.writtenBy !== null) warnOfOtherMaker(telemetry.log, resumed.writtenBy, writtenBy);
  const trainee = await startTrainee(config, resumed, chooseKernels(), options);
  // Only now, after all checks at the start have passed.
  await removeSnapshots(options.saveDir, inTheWay);
  await options.damage.begin(resumed !== null);
  const losses = new LossWatch(config.TRAIN.on_nan, options.saveDir, telemetry.log);
  await losses.begin(resumed !== null);
  const { saveDir, lockText, keep, resume } = options;
  const configYaml = formatConfig(config);
  const configFile = join(saveDir, "config.yaml");
  const isNew = !existsSync(configFile);
  await writeFileAtomic(configFile, configYaml);
  const resumedFrom = resume?.snapshot ?? null;
  const model = { sizes: modelSizes(config.MODEL), dropRate: config.MODEL.drop_rate };
  const saver = new Saver(
    { saveDir, lockText, keep, configYaml, model, writtenBy, telemetry, resumedFrom, retryMs: SAVE_RETRY_MS },
    trainee,
  );
  run = new TrainingRun(
    config,
    options,
    { ...trainee, state: { ...trainee.state, shards: shardList } },
    saver,
    shards,
    validShards,
    losses,
  );
  try {
    await run.finish();
    return run.outcome();
  } catch (error) {
    // A run that failed before its first step leaves no config.
    if (isNew && run.outcome().steps === trainee.state.step) await rm(configFile, { force: true }).catch(() => undefined);
    throw error;
  } finally {
    run = null;
    await saver.close();
  }
}
