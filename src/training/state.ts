import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { describeMismatch, fillAllArrays, fillArrays } from "../checkpoints/arrays.js";
import { openWeights } from "../checkpoints/open-weights.js";
import { emaFile, type RunState } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import { ALONE, type World } from "../distributed/world.js";
import type { Kernels } from "../kernels/types.js";
import { dropRates } from "../model/drop-rates.js";
import { readEigenFactor } from "../model/eigen.js";
import { FrozenNetwork } from "../model/frozen.js";
import { parameterTable } from "../model/network.js";
import { countParameters } from "../model/parameters.js";
import { modelSizes } from "../model/sizes.js";
import { WeightStore } from "../model/weights.js";
import { Adam } from "../optim/adam.js";
import type { Optimizer } from "../optim/optimizer.js";
import { requireFiniteLogits } from "../passes/loaded-network.js";
import type { StartOptions } from "./options.js";
import type { ResumedRun } from "./resume.js";
import { createAverage, type WeightAverage } from "./weight-average.js";

/** What training changes: the weights, the optimizer's state, and the position in the run. */
export interface TrainingState {
  readonly store: WeightStore;
  readonly optimizer: Optimizer;
  readonly kernels: Kernels;
  /** The moving averages of the weights; null without TRAIN.ema_decay. */
  readonly ema: WeightAverage | null;
  /** The step at which this process starts. */
  readonly firstStep: number;
  /** The position in the run, and what else a snapshot's state holds. Replaced after each step, never changed in place. */
  run: RunState;
  /** Whether a step is in progress; after an error in it, some weights are updated and others not. */
  isUpdating: boolean;
}

/**
 * Creates the state with initial values, the weights of `pretrain`, or all arrays of `resume`. Throws BAD_WEIGHTS with all mismatches, NOT_FINITE if resumed
 * weights contain NaN or Inf or give such logits, and what reading the weights and the eigen file throws.
 */
export async function createState(
  config: Config,
  resumed: ResumedRun | null,
  kernels: Kernels,
  { resume, pretrain, telemetry: { log } }: StartOptions,
  world: World = ALONE,
): Promise<TrainingState> {
  const sizes = modelSizes(config.MODEL);
  const table = parameterTable(sizes);
  const counts = countParameters(table);
  log.info(counts, `the model has ${counts.trained} trainable parameters, ${counts.all} with moving statistics and eigen_param`);
  const store = new WeightStore(table, world);
  const optimizer = new Adam(store, kernels, config.TRAIN.weight_decay);
  const ema = createAverage(config, store, world);
  if (resume !== null && resumed !== null) {
    const arrays = [...store.arrays(), ...optimizer.arrays()];
    await fillAllArrays(resume, arrays, "resume with the config of that run, or start a new one with --pretrain");
    await resume.close();
    const { whole, release } = store.gatherRows();
    const network = new FrozenNetwork(sizes, dropRates(config.MODEL), whole, kernels);
    await requireFiniteLogits(network, resume).finally(() => {
      network.dispose();
      release();
    });
    const { source } = resumed;
    const run = ema === null || resume.snapshot !== null ? resumed.run : { ...resumed.run, ema_from: resumed.run.step };
    if (ema !== null) await resumeAverage(ema, resume.snapshot);
    log.info(`resuming from ${resume.path}: epoch ${run.epoch}, step ${run.step} (${source})`);
    return { store, optimizer, kernels, ema, firstStep: run.step, run, isUpdating: false };
  }
  const { seed } = config.TRAIN;
  if (pretrain === null) await initialize(store, new Set(table.map(({ name }) => name)), config, log);
  else await loadPretrained(pretrain, store, config, log);
  ema?.start();
  const run = { step: 0, epoch: 0, step_in_epoch: 0, seed, best: null, validated_epoch: null, shards: null };
  return { store, optimizer, kernels, ema, firstStep: 0, run, isUpdating: false };
}

/** Loads the averages of a snapshot, or starts them with other weights. Throws BAD_WEIGHTS if they do not match, and what reading them throws. */
async function resumeAverage(ema: WeightAverage, snapshot: string | null): Promise<void> {
  if (snapshot === null) return ema.start();
  const source = await openWeights(emaFile(snapshot), { optimizer: false });
  await fillAllArrays(source, ema.store.arrays(), "use another snapshot").finally(() => source.close());
}

/** Loads the arrays of `pretrain` that match the model, and initializes the others. Throws BAD_WEIGHTS if none matches. */
async function loadPretrained(pretrain: WeightSource, store: WeightStore, config: Config, log: Logger): Promise<void> {
  const { table } = store;
  const mismatches = await fillArrays(pretrain, store.arrays());
  await pretrain.close();
  if (mismatches.length === table.length) {
    const remedy = "check the config's MODEL section";
    throw new NextvladError("BAD_WEIGHTS", "none of the arrays matches the model", { file: pretrain.path, remedy });
  }
  if (mismatches.length > 0) {
    const arrays = mismatches.length === 1 ? "1 array" : `${mismatches.length} arrays`;
    log.warn({ mismatches }, `initialized ${arrays}: ${listFirst(mismatches.map(describeMismatch), { separator: "; " })}`);
  }
  await initialize(store, new Set(mismatches.map(({ name }) => name)), config, log);
  const loaded = `${table.length - mismatches.length} of ${table.length} arrays`;
  log.info(`loaded pretrained weights from ${pretrain.path}, ${pretrain.form}: ${loaded}`);
}

/** Initializes the named arrays. Throws FILE_MISSING, FILE_UNREADABLE or BAD_FORMAT if eigen_file is needed and cannot be read. */
async function initialize(store: WeightStore, names: ReadonlySet<string>, config: Config, log: Logger): Promise<void> {
  const { eigen_file, video_feature_size } = config.MODEL;
  const eigen = names.has("eigen_param") && eigen_file !== null ? await readEigenFactor(eigen_file, video_feature_size) : null;
  if (eigen !== null && eigen.warning !== null) log.warn(eigen.warning);
  const factor = eigen?.factor ?? null;
  for (const name of names) store.initialize(name, config.TRAIN.seed, factor);
}
