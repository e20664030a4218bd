import type { Config } from "../config/schema.js";
import { openStream } from "../data/stream.js";
import type { Cluster } from "../distributed/cluster.js";
import { learningRateAt } from "../optim/schedule.js";
import { startRuntime } from "../passes/start-runtime.js";
import { roundingOf } from "../runtime/rounding.js";
import { epochOptions } from "./epoch.js";
import { gatherBatch } from "./gather-batch.js";
import { sendRows } from "./histograms.js";
import type { StartOptions, TrainOptions } from "./options.js";
import { type Announcement, assertSameStart, awaitAnnouncement, connectRanks } from "./ranks.js";
import { readResumedRun } from "./resume.js";
import { sendState } from "./saver.js";
import { createState, type TrainingState } from "./state.js";
import { stepOptions, trainStep } from "./step.js";
import { Teacher } from "./teacher.js";
import { followValidation } from "./validation.js";
import { findRepeatFactors, receiveVideoCount } from "./video-count.js";
import type { WeightAverage } from "./weight-average.js";

/** Options of `follow` besides the config. */
export interface FollowOptions extends StartOptions, Pick<TrainOptions, "shards" | "validShards" | "threads" | "version"> {
  readonly cluster: Cluster;
}

/**
 * Trains as a rank other than 0: computes its share of each of rank 0's steps, and writes no files. Returns when rank 0 ends the run. Throws what loading, reading
 * and computing throw, RANK_FAILED if a rank fails, and RANKS_DIFFER.
 */
export async function follow(config: Config, options: FollowOptions): Promise<void> {
  const { TRAIN } = config;
  const { cluster, shards, threads, limitVideos, telemetry } = options;
  const resumed = await readResumedRun(config, options);
  const teacher = await Teacher.read(config);
  const runtime = { config, section: "TRAIN", batchSize: TRAIN.batch_size, threads, cluster } as const;
  const { device, kernels } = await startRuntime(runtime, telemetry.log);
  const world = await connectRanks(cluster, { ...options, config, run: resumed?.run ?? null, rounding: roundingOf(device) });
  const state = await createState(config, resumed, kernels, options, world);
  assertSameStart(world, state);
  const repeatFactors = await findRepeatFactors(config, shards, null);
  const videos = receiveVideoCount(config, world);
  const next = async (finished: TrainingState | null): Promise<Announcement> => {
    for (;;) {
      const announced = awaitAnnouncement(world, finished);
      if (announced === "validation") await followValidation(config, options, state, state.store, world);
      else if (announced === "ema validation") await followValidation(config, options, state, (state.ema as WeightAverage).store, world);
      else if (announced === "save") sendState(state);
      else if (announced === "histograms") sendRows(state.store);
      else return announced;
    }
  };
  const ofSteps = stepOptions(config, state.run.seed, kernels, world, teacher);
  for (let { step, epoch, step_in_epoch } = state.run; epoch < TRAIN.epoch; epoch++, step_in_epoch = 0) {
    let isCut = false;
    const source = { shards, threads, limitVideos, world, repeatFactors };
    const stream = openStream(epochOptions(config, source, { ...state.run, epoch, step_in_epoch }));
    for await (const own of stream) {
      const announced = await next(null);
      if (announced === "run end") return;
      if (announced === "epoch end") {
        isCut = true;
        break;
      }
      // Rank 0 stops if too many losses are non-finite.
      const acceptLoss = TRAIN.on_nan === "skip-batch" ? Number.isFinite : undefined;
      const { batch } = gatherBatch(world, own, stream.bytesRead);
      const report = announced === "reported step";
      trainStep(batch, state, ofSteps, { step, report, learningRate: learningRateAt(step, TRAIN, videos), acceptLoss });
      step++;
    }
    if (!isCut && (await next(state)) === "run end") return;
  }
  await next(null);
}
