import { join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { refuseForeignFile } from "../base/files.js";
import { readInput } from "../base/input.js";
import { listFirst } from "../base/problem-list.js";
import { describeMismatch, fillAllArrays, fillArrays } from "../checkpoints/arrays.js";
import {
  bestSnapshot,
  isForeignDirectory,
  listSnapshots,
  parseSnapshotName,
  type RunState,
  readSnapshotConfig,
  readSnapshotState,
} from "../checkpoints/snapshot.js";
import { BEST, CONFIG } from "../checkpoints/snapshot-layout.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { formatConfig } from "../config/keys.js";
import { loadConfig } from "../config/load.js";
import type { Config } from "../config/schema.js";
import { requireFiniteLogits } from "../evaluation/evaluate.js";
import type { Kernels } from "../kernels/types.js";
import { readEigenFactor } from "../model/eigen.js";
import { FrozenNetwork } from "../model/frozen.js";
import { parameterTable } from "../model/network.js";
import { countParameters } from "../model/parameters.js";
import { modelSizes } from "../model/sizes.js";
import { WeightStore } from "../model/weights.js";
import { Adam } from "../optim/adam.js";
import type { Optimizer } from "../optim/optimizer.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import { type ResumeState, readResumeState } from "./resume-state.js";

/** How a run starts. */
export interface StartOptions {
  readonly saveDir: string;
  /** Checkpoint to resume from, with the optimizer's state; all arrays must match. `startTrainee` closes it. */
  readonly resume: WeightSource | null;
  /** Number of steps of that checkpoint, if it does not contain it (`--resume-step`). */
  readonly resumeStep: number | null;
  /** Names of corrupt snapshots in the save-dir that are newer than that one; they are ignored. */
  readonly passedOver: readonly string[];
  /** Initial weights; arrays that do not match the model are initialized. `startTrainee` closes it. */
  readonly pretrain: WeightSource | null;
  /** Whether snapshots of another run in the save-dir may be removed. */
  readonly overwrite: boolean;
  readonly telemetry: Telemetry;
}

/** A model in training, and the state of its run. */
export interface Trainee {
  readonly store: WeightStore;
  readonly optimizer: Optimizer;
  readonly kernels: Kernels;
  readonly state: RunState;
}

/** The state to resume from, and the conflicting snapshots to remove before the first new one. */
export interface Claim {
  readonly resumed: ResumeState | null;
  /** Names in the save-dir; empty without `--overwrite`. */
  readonly inTheWay: readonly string[];
}

/**
 * Checks that the run overwrites nothing in the save-dir without `--overwrite`. Removes nothing yet. Throws
 * - SAVE_DIR_TAKEN if there are snapshots of another run, snapshots later than the one to resume from, or a directory `best` that is not a snapshot;
 * - FILE_UNWRITABLE if there is a config that train did not write;
 * - BAD_USAGE for conflicting flags, BAD_CONFIG if the config does not fit the resumed run, and what reading the snapshot throws.
 */
export async function claimSaveDir(config: Config, options: StartOptions): Promise<Claim> {
  const { saveDir, resume, resumeStep, passedOver, pretrain, overwrite } = options;
  if (resumeStep !== null && resume === null) {
    const remedy = "--resume names the checkpoint that it is of";
    throw new NextvladError("BAD_USAGE", "there is nothing that has taken steps", { key: "--resume-step", remedy });
  }
  if (resume !== null && pretrain !== null) {
    const remedy = "--resume goes on with a run; --pretrain starts a new one from its weights";
    throw new NextvladError("BAD_USAGE", "only one of the two can be given", { key: "--resume, --pretrain", remedy });
  }
  const resumed = resume === null ? null : await readResumeState(resume, config.TRAIN.seed, resumeStep);
  const state = resumed?.state ?? null;
  if (state !== null && typeof resume?.snapshot === "string") await refuseOtherCourse(config, resume.snapshot, state);
  const there = (await listSnapshots(saveDir)).filter((name) => !passedOver.includes(name));
  const best = await readSnapshotState(bestSnapshot(saveDir)).catch(() => null);
  const ofOtherModel = there.filter((name) => isOfOtherModel(name, config.MODEL.name));
  const isConflicting = (name: string): boolean =>
    state === null || ofOtherModel.includes(name) || isLater(name, state, best) || (name === BEST && ofOtherModel.length > 0);
  const inTheWay = there.filter(isConflicting);
  if (inTheWay.length > 0 && !overwrite) {
    const whose =
      ofOtherModel.length > 0
        ? "the save-dir holds snapshots of another model"
        : state === null
          ? "another run's snapshots are there"
          : "snapshots later than the one to resume from are there";
    const resume = ofOtherModel.length > 0 ? "" : state === null ? "--resume one of them, " : "resume from the latest of them, ";
    const remedy = `use another --save-dir, ${resume}or --overwrite to replace them`;
    throw new NextvladError("SAVE_DIR_TAKEN", `${whose}: ${inTheWay.join(", ")}`, { file: saveDir, remedy });
  }
  const bestPath = bestSnapshot(saveDir);
  if (!overwrite && (await isForeignDirectory(bestPath))) {
    const remedy = "move it away, use another --save-dir, or --overwrite to replace it";
    throw new NextvladError("SAVE_DIR_TAKEN", "the best snapshot goes here, and this is not a snapshot", { file: bestPath, remedy });
  }
  const before = typeof resume?.snapshot === "string" ? join(resume.snapshot, CONFIG) : null;
  await refuseForeignFile(join(saveDir, CONFIG), overwrite, (file) => isOwnConfig(file, before));
  return { resumed, inTheWay };
}

/** Returns whether a config has the form that train writes, or equals that of the resumed snapshot (which an earlier version may have written). */
async function isOwnConfig(file: string, before: string | null): Promise<boolean> {
  const text = await readText(file);
  if (text === null) return false;
  if (before !== null && text === (await readText(before))) return true;
  return loadConfig(file).then(
    (config) => isFormatted(text, formatConfig(config)),
    () => false,
  );
}

const KEY = /^ {2}\w+:/;
const COMMENT = /^ *#/;

/**
 * Returns whether a config has the form that train writes, in this version or an older one, which had fewer keys and other comments: a comment line before each
 * key, no other comments, and all other lines in `full`, the text with all keys of this version, in the same order.
 */
function isFormatted(text: string, full: string): boolean {
  const lines = text.split("\n");
  const isExplained = (line: string, i: number): boolean => KEY.test(line) === COMMENT.test(lines[i - 1] ?? "");
  if (text === "" || !lines.every(isExplained)) return false;
  const expected = full.split("\n");
  let at = -1;
  return lines.every((line) => {
    if (COMMENT.test(line)) return true;
    at = expected.indexOf(line, at + 1);
    return at !== -1;
  });
}

function isOfOtherModel(name: string, model: string): boolean {
  return (parseSnapshotName(name)?.model ?? model) !== model;
}

function isLater(name: string, state: RunState, best: RunState | null): boolean {
  const parsed = parseSnapshotName(name);
  if (parsed === null) return best !== null && best.step > state.step;
  return parsed.kind === "epoch" ? parsed.number >= state.epoch : parsed.number > state.step;
}

/**
 * Throws BAD_CONFIG if a setting has changed that a resumed run must keep, because the order of videos or the position in it depends on it; BAD_SNAPSHOT if the
 * snapshot's epoch exceeds TRAIN.epoch of its own config.
 */
async function refuseOtherCourse(config: Config, resume: string, state: RunState): Promise<void> {
  const then = (await readSnapshotConfig(resume)) as { readonly TRAIN?: Record<string, unknown>; readonly MODEL?: Record<string, unknown> };
  const epochs = then.TRAIN?.epoch;
  if (typeof epochs === "number" && state.epoch > epochs) {
    const values = { key: "epoch", expected: `at most TRAIN.epoch of its config, ${epochs}`, found: state.epoch };
    throw new NextvladError("BAD_SNAPSHOT", "corrupt snapshot state", { file: resume, ...values, remedy: "use another snapshot" });
  }
  const settings: [string, unknown, unknown][] = [["TRAIN.seed", config.TRAIN.seed, state.seed]];
  if (state.step_in_epoch > 0) {
    settings.push(["TRAIN.batch_size", config.TRAIN.batch_size, then.TRAIN?.batch_size]);
    settings.push(["TRAIN.shuffle_buffer", config.TRAIN.shuffle_buffer, then.TRAIN?.shuffle_buffer]);
    // With "error", the run has met no corrupt record so far, so a new policy affects only later records.
    const policy = then.TRAIN?.on_corrupt ?? "error";
    if (policy !== "error") settings.push(["TRAIN.on_corrupt", config.TRAIN.on_corrupt, policy]);
  }
  for (const [key, now, before] of settings) {
    if (now === before) continue;
    const remedy = "leave it as it was (without --config, a resumed run takes the snapshot's), or start a new run with --pretrain";
    throw new NextvladError("BAD_CONFIG", "a run that goes on cannot change it", {
      key,
      expected: String(before),
      found: String(now),
      remedy,
    });
  }
}

/** Creates the model with initial values, the weights of `pretrain`, or all arrays of `resume`. Throws BAD_WEIGHTS that lists every mismatch. */
export async function startTrainee(config: Config, resumed: ResumeState | null, kernels: Kernels, options: StartOptions): Promise<Trainee> {
  const { resume, pretrain, telemetry } = options;
  const table = parameterTable(modelSizes(config.MODEL));
  const counts = countParameters(table);
  telemetry.log.info(counts, `the model has ${counts.trained} trained values, ${counts.all} with moving statistics and eigen_param`);
  const store = new WeightStore(table);
  const optimizer = new Adam(store, kernels);
  if (resume !== null && resumed !== null) {
    const arrays = [...store.arrays(), ...optimizer.arrays()];
    await fillAllArrays(resume, arrays, "resume with the config of that run, or start a new one with --pretrain");
    await resume.close();
    const network = new FrozenNetwork(modelSizes(config.MODEL), config.MODEL.drop_rate, store, kernels);
    await requireFiniteLogits(network, resume).finally(() => network.dispose());
    const { state, told } = resumed;
    telemetry.log.info(`going on from ${resume.path}: epoch ${state.epoch}, ${state.step} steps taken, ${told}`);
    return { store, optimizer, kernels, state };
  }
  const { seed } = config.TRAIN;
  if (pretrain === null) await initialize(store, new Set(table.map(({ name }) => name)), config, telemetry);
  else {
    const misfits = await fillArrays(pretrain, store.arrays());
    await pretrain.close();
    if (misfits.length === table.length) {
      throw new NextvladError("BAD_WEIGHTS", "nothing of it fits the model", {
        file: pretrain.path,
        remedy: "check the config's MODEL section",
      });
    }
    if (misfits.length > 0)
      telemetry.log.warn(
        { misfits },
        `${misfits.length === 1 ? "1 array starts" : `${misfits.length} arrays start`} afresh: ${listFirst(misfits.map(describeMismatch), { separator: "; " })}`,
      );
    await initialize(store, new Set(misfits.map(({ name }) => name)), config, telemetry);
    telemetry.log.info(
      `starting from the weights of ${pretrain.path}, ${pretrain.form}: ${table.length - misfits.length} of ${table.length} arrays`,
    );
  }
  return {
    store,
    optimizer,
    kernels,
    state: { step: 0, epoch: 0, step_in_epoch: 0, seed, best: null, validated_epoch: null, shards: null },
  };
}

/** Initializes the named arrays. Throws FILE_MISSING, FILE_UNREADABLE or BAD_FORMAT if eigen_file is needed and cannot be read. */
async function initialize(store: WeightStore, names: ReadonlySet<string>, config: Config, telemetry: Telemetry): Promise<void> {
  const { eigen_file, video_feature_size } = config.MODEL;
  const eigen = names.has("eigen_param") && eigen_file !== null ? await readEigenFactor(eigen_file, video_feature_size) : null;
  if (eigen !== null && eigen.warning !== null) telemetry.log.warn(eigen.warning);
  const factor = eigen?.factor ?? null;
  for (const name of names) store.initialize(name, config.TRAIN.seed, factor);
}

/** Reads a file as UTF-8; null if it cannot be read. */
function readText(file: string): Promise<string | null> {
  return readInput(file).then(
    (bytes) => bytes.toString("utf8"),
    () => null,
  );
}
