import { NextvladError } from "../base/errors.js";
import { describeMisfit, fillAllArrays, fillArrays } from "../checkpoints/arrays.js";
import {
  listSnapshots,
  optimizerFile,
  type RunState,
  readSnapshotState,
  removeSnapshots,
  requireSnapshot,
  weightsFile,
} from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import { readEigenFactor } from "../model/eigen.js";
import { countParameters, parameterTable } from "../model/parameters.js";
import { modelSizes } from "../model/sizes.js";
import { WeightStore } from "../model/weight-store.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import { Adam } from "./adam.js";

/** How a run begins. */
export interface StartOptions {
  readonly saveDir: string;
  /** A snapshot to go on from: everything must fit. */
  readonly resume: string | null;
  /** A snapshot whose weights to begin with, as far as they fit. */
  readonly pretrain: string | null;
  /** Whether another run's snapshots in the save-dir may go. */
  readonly overwrite: boolean;
  readonly telemetry: Telemetry;
}

/** A model in training and where its run stands. */
export interface Trainee {
  readonly store: WeightStore;
  readonly adam: Adam;
  readonly state: Omit<RunState, "format_version">;
}

/**
 * Sees to it that no snapshot is lost unasked: a save-dir with another run's is refused without `--resume` or `--overwrite`, and one with
 * snapshots later than the one resumed from without `--overwrite`. Throws BAD_USAGE, SAVE_DIR_TAKEN and what reading the snapshot throws.
 */
export async function claimSaveDir({ saveDir, resume, pretrain, overwrite }: StartOptions): Promise<RunState | null> {
  if (resume !== null && pretrain !== null) {
    const remedy = "--resume goes on with a run; --pretrain starts a new one from its weights";
    throw new NextvladError("BAD_USAGE", "only one of the two can be given", { key: "--resume, --pretrain", remedy });
  }
  const state = resume === null ? null : await readSnapshotState(resume);
  if (pretrain !== null) await requireSnapshot(pretrain);
  const there = await listSnapshots(saveDir);
  const inTheWay = state === null ? there : there.filter((name) => isLater(name, state));
  if (inTheWay.length > 0 && !overwrite) {
    const whose = state === null ? "another run's snapshots are there" : "snapshots later than the one to resume from are there";
    const remedy = `use another --save-dir, ${state === null ? "--resume one of them" : "resume from the latest of them"}, or --overwrite to replace them`;
    throw new NextvladError("SAVE_DIR_TAKEN", `${whose}: ${inTheWay.join(", ")}`, { file: saveDir, remedy });
  }
  await removeSnapshots(saveDir, inTheWay);
  return state;
}

function isLater(name: string, state: RunState): boolean {
  const [, kind, number] = /^NEXTVLAD_(epoch|step)(\d+)$/.exec(name) ?? [];
  if (kind === "epoch") return Number(number) >= state.epoch;
  return kind === "step" && Number(number) > state.step;
}

/** Makes the model and gives it its first values: fresh ones, another run's weights, or all of a snapshot. Throws BAD_WEIGHTS with every misfit. */
export async function startTrainee(config: Config, state: RunState | null, options: StartOptions): Promise<Trainee> {
  const { resume, pretrain, telemetry } = options;
  const table = parameterTable(modelSizes(config.MODEL));
  const counts = countParameters(table);
  telemetry.log.info(counts, `the model has ${counts.trained} trained values, ${counts.all} with moving statistics and eigen_param`);
  const store = new WeightStore(table);
  const adam = new Adam(store);
  if (resume !== null && state !== null) {
    await fillAllArrays(weightsFile(resume), store.arrays(), "resume with the config of that run, or start a new one with --pretrain");
    await fillAllArrays(optimizerFile(resume), adam.arrays(), "resume with the config of that run, or start a new one with --pretrain");
    telemetry.log.info(`going on from ${resume}: epoch ${state.epoch}, ${state.step} steps taken`);
    return { store, adam, state };
  }
  const { seed } = config.TRAIN;
  if (pretrain === null) await initialise(store, new Set(table.map(({ name }) => name)), config);
  else {
    const misfits = await fillArrays(weightsFile(pretrain), store.arrays());
    if (misfits.length === table.length) {
      throw new NextvladError("BAD_WEIGHTS", "nothing of it fits the model", {
        file: weightsFile(pretrain),
        remedy: "check the config's MODEL section",
      });
    }
    for (const misfit of misfits) telemetry.log.warn(`starts afresh: ${describeMisfit(misfit)}`);
    await initialise(store, new Set(misfits.map(({ name }) => name)), config);
    telemetry.log.info(`starting from the weights of ${pretrain}: ${table.length - misfits.length} of ${table.length} arrays`);
  }
  return { store, adam, state: { step: 0, epoch: 0, step_in_epoch: 0, seed, best: null } };
}

/** Gives the named arrays fresh values. Throws FILE_MISSING or BAD_FORMAT for a configured eigen file that is needed. */
async function initialise(store: WeightStore, names: ReadonlySet<string>, config: Config): Promise<void> {
  const { eigen_file, video_feature_size } = config.MODEL;
  const factor = names.has("eigen_param") && eigen_file !== null ? await readEigenFactor(eigen_file, video_feature_size) : null;
  for (const name of names) store.initialise(name, config.TRAIN.seed, factor);
}
