import { basename, join } from "node:path";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { readInput } from "../base/input.js";
import { assertReplaceable } from "../base/output-checks.js";
import { listFirst } from "../base/problem-list.js";
import { describeMismatch, fillAllArrays, fillArrays } from "../checkpoints/arrays.js";
import { findPaddleStep } from "../checkpoints/paddle-step.js";
import {
  bestSnapshot,
  isForeignDirectory,
  listSnapshots,
  parseSnapshotName,
  type RunState,
  readSnapshotConfig,
  readSnapshotState,
  type WrittenBy,
} from "../checkpoints/snapshot.js";
import { BEST, CONFIG } from "../checkpoints/snapshot-layout.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { formatConfig } from "../config/keys.js";
import { loadConfig } from "../config/load.js";
import type { Config } from "../config/schema.js";
import type { Kernels } from "../kernels/types.js";
import { readEigenFactor } from "../model/eigen.js";
import { FrozenNetwork } from "../model/frozen.js";
import { parameterTable } from "../model/network.js";
import { countParameters } from "../model/parameters.js";
import { modelSizes } from "../model/sizes.js";
import { WeightStore } from "../model/weights.js";
import { Adam } from "../optim/adam.js";
import type { Optimizer } from "../optim/optimizer.js";
import { requireFiniteLogits } from "../passes/loaded-network.js";
import type { Telemetry } from "../telemetry/telemetry.js";

/** How a run starts. */
export interface StartOptions {
  readonly saveDir: string;
  /** Checkpoint to resume from, with the optimizer's state; all arrays must match. `createState` closes it. */
  readonly resume: WeightSource | null;
  /** Number of steps of that checkpoint, if it does not contain it (`--resume-step`). */
  readonly resumeStep: number | null;
  /** Names of corrupt snapshots in the save-dir that are newer than that one; they are ignored. */
  readonly skippedSnapshots: readonly string[];
  /** Initial weights; arrays that do not match the model are initialized. `createState` closes it. */
  readonly pretrain: WeightSource | null;
  /** Whether snapshots of another run in the save-dir may be removed. */
  readonly overwrite: boolean;
  readonly telemetry: Telemetry;
}

/** What training changes: the weights, the optimizer's state, and the position in the run. */
export interface TrainingState {
  readonly store: WeightStore;
  readonly optimizer: Optimizer;
  readonly kernels: Kernels;
  /** The step at which this process starts. */
  readonly firstStep: number;
  /** The position in the run, and what else a snapshot's state holds. Replaced after each step, never changed in place. */
  run: RunState;
  /** Whether a step is in progress; after an error in it, some weights are updated and others not. */
  isUpdating: boolean;
}

/** A run to resume. */
export interface ResumedRun {
  readonly run: RunState;
  /** What wrote the snapshot; null if unknown. */
  readonly writtenBy: WrittenBy | null;
  /** Where the state was found, for the log. */
  readonly source: string;
}

/** The run to resume, if any, and the conflicting snapshots to remove before the first new one. */
export interface SaveDirCheck {
  readonly resumed: ResumedRun | null;
  /** Names in the save-dir; empty without `--overwrite`. */
  readonly conflictingSnapshots: readonly string[];
}

/**
 * Checks that the run overwrites nothing in the save-dir without `--overwrite`. Removes nothing yet. Throws
 * - SAVE_DIR_TAKEN if there are snapshots of another run, snapshots later than the one to resume from, or a directory `best` that is not a snapshot;
 * - FILE_UNWRITABLE if there is a config that train did not write;
 * - BAD_USAGE for conflicting flags, BAD_CONFIG if the config does not fit the resumed run, and what reading the snapshot throws.
 */
export async function checkSaveDir(config: Config, options: StartOptions): Promise<SaveDirCheck> {
  const { saveDir, resume, resumeStep, skippedSnapshots, pretrain, overwrite } = options;
  if (resumeStep !== null && resume === null) {
    const remedy = "pass its checkpoint with --resume, or omit the flag";
    throw new NextvladError("BAD_USAGE", "the flag requires --resume", { key: "--resume-step", remedy });
  }
  if (resume !== null && pretrain !== null) {
    const remedy = "use --resume to continue a run, or --pretrain to start a new one from its weights";
    throw new NextvladError("BAD_USAGE", "these flags are mutually exclusive", { key: "--resume, --pretrain", remedy });
  }
  const resumed = resume === null ? null : await readResumedRun(resume, config.TRAIN.seed, resumeStep);
  const run = resumed?.run ?? null;
  if (run !== null && typeof resume?.snapshot === "string") await assertResumeCompatible(config, resume.snapshot, run);
  const existing = (await listSnapshots(saveDir)).filter((name) => !skippedSnapshots.includes(name));
  const best = await readSnapshotState(bestSnapshot(saveDir)).catch(() => null);
  const ofOtherModel = existing.filter((name) => isOfOtherModel(name, config.MODEL.name));
  const isConflicting = (name: string): boolean =>
    run === null || ofOtherModel.includes(name) || isLater(name, run, best) || (name === BEST && ofOtherModel.length > 0);
  const conflictingSnapshots = existing.filter(isConflicting);
  if (conflictingSnapshots.length > 0 && !overwrite) {
    const [whose, resuming] =
      ofOtherModel.length > 0
        ? ["of another model", ""]
        : run === null
          ? ["of another run", "--resume one of them, "]
          : ["later than the one to resume from", "resume from the latest of them, "];
    const what = `the save-dir contains snapshots ${whose}: ${conflictingSnapshots.join(", ")}`;
    const remedy = `use another --save-dir, ${resuming}or --overwrite to replace them`;
    throw new NextvladError("SAVE_DIR_TAKEN", what, { file: saveDir, remedy });
  }
  const bestPath = bestSnapshot(saveDir);
  if (!overwrite && (await isForeignDirectory(bestPath))) {
    const remedy = "move it, use another --save-dir, or --overwrite to replace it";
    throw new NextvladError("SAVE_DIR_TAKEN", "the directory of the best snapshot contains other files", { file: bestPath, remedy });
  }
  const resumedConfig = typeof resume?.snapshot === "string" ? join(resume.snapshot, CONFIG) : null;
  await assertReplaceable(join(saveDir, CONFIG), overwrite, (file) => isOwnConfig(file, resumedConfig));
  return { resumed, conflictingSnapshots };
}

/** Returns whether a config has the form that train writes, or equals that of the resumed snapshot (which an earlier version may have written). */
async function isOwnConfig(file: string, resumedConfig: string | null): Promise<boolean> {
  const text = await readText(file);
  if (text === null) return false;
  if (resumedConfig !== null && text === (await readText(resumedConfig))) return true;
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

function isLater(name: string, run: RunState, best: RunState | null): boolean {
  const parsed = parseSnapshotName(name);
  if (parsed === null) return best !== null && best.step > run.step;
  return parsed.kind === "epoch" ? parsed.number >= run.epoch : parsed.number > run.step;
}

/**
 * Returns the run that weights come from. A snapshot contains its state. For Paddle's weights, the step is found by `findPaddleStep`, and the number of
 * finished epochs by a name like NEXTVLAD_epoch5; without one, epochs count from 0 again, as in PaddleVideo, and `seed` is the config's seed.
 * Throws BAD_USAGE if `resumeStep` is given for a snapshot, BAD_WEIGHTS if the step is unknown or invalid, and what reading the state throws.
 */
export async function readResumedRun(source: WeightSource, seed: number, resumeStep: number | null): Promise<ResumedRun> {
  if (source.snapshot !== null) {
    if (resumeStep === null) {
      const { format_version, written_by: writtenBy, files, ...run } = await readSnapshotState(source.snapshot);
      return { run, writtenBy, source: "from the snapshot's state" };
    }
    const remedy = "omit the flag; it is for Paddle's weights without a step counter";
    throw new NextvladError("BAD_USAGE", "a snapshot contains its own step", { file: source.path, key: "--resume-step", remedy });
  }
  const { step, origin } = await findPaddleStep(source, resumeStep);
  const number = /epoch_?(\d+)/.exec(basename(source.path))?.[1];
  const epoch = number === undefined ? 0 : Number(number) + 1;
  const epochSource =
    number === undefined ? "epochs count from 0, as in PaddleVideo, because the file name has none" : "epoch from the file name";
  const validated = epoch > 0 ? epoch - 1 : null;
  const run = { step, epoch, step_in_epoch: 0, seed, best: null, validated_epoch: validated, shards: null };
  return { run, writtenBy: null, source: `step ${origin}; ${epochSource}` };
}

/**
 * Throws BAD_CONFIG if a setting has changed that a resumed run must keep, because the order of videos or the position in it depends on it; BAD_SNAPSHOT if the
 * snapshot's epoch exceeds TRAIN.epoch of its own config.
 */
async function assertResumeCompatible(config: Config, snapshot: string, run: RunState): Promise<void> {
  const { TRAIN: saved } = (await readSnapshotConfig(snapshot)) as { readonly TRAIN?: Record<string, unknown> };
  const epochs = saved?.epoch;
  if (typeof epochs === "number" && run.epoch > epochs) {
    const values = { key: "epoch", expected: `at most TRAIN.epoch of its config, ${epochs}`, found: run.epoch };
    throw new NextvladError("BAD_SNAPSHOT", "corrupt snapshot state", { file: snapshot, ...values, remedy: "use another snapshot" });
  }
  const settings: [string, unknown, unknown][] = [["TRAIN.seed", config.TRAIN.seed, run.seed]];
  if (run.step_in_epoch > 0) {
    settings.push(["TRAIN.batch_size", config.TRAIN.batch_size, saved?.batch_size]);
    settings.push(["TRAIN.shuffle_buffer", config.TRAIN.shuffle_buffer, saved?.shuffle_buffer]);
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

/** Creates the state with initial values, the weights of `pretrain`, or all arrays of `resume`. Throws BAD_WEIGHTS that lists every mismatch. */
export async function createState(
  config: Config,
  resumed: ResumedRun | null,
  kernels: Kernels,
  { resume, pretrain, telemetry: { log } }: StartOptions,
): Promise<TrainingState> {
  const sizes = modelSizes(config.MODEL);
  const table = parameterTable(sizes);
  const counts = countParameters(table);
  log.info(counts, `the model has ${counts.trained} trainable parameters, ${counts.all} with moving statistics and eigen_param`);
  const store = new WeightStore(table);
  const optimizer = new Adam(store, kernels);
  if (resume !== null && resumed !== null) {
    const arrays = [...store.arrays(), ...optimizer.arrays()];
    await fillAllArrays(resume, arrays, "resume with the config of that run, or start a new one with --pretrain");
    await resume.close();
    const network = new FrozenNetwork(sizes, config.MODEL.drop_rate, store, kernels);
    await requireFiniteLogits(network, resume).finally(() => network.dispose());
    const { run, source } = resumed;
    log.info(`resuming from ${resume.path}: epoch ${run.epoch}, step ${run.step} (${source})`);
    return { store, optimizer, kernels, firstStep: run.step, run, isUpdating: false };
  }
  const { seed } = config.TRAIN;
  if (pretrain === null) await initialize(store, new Set(table.map(({ name }) => name)), config, log);
  else await loadPretrained(pretrain, store, config, log);
  const run = { step: 0, epoch: 0, step_in_epoch: 0, seed, best: null, validated_epoch: null, shards: null };
  return { store, optimizer, kernels, firstStep: 0, run, isUpdating: false };
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
    log.warn({ misfits: mismatches }, `initialized ${arrays}: ${listFirst(mismatches.map(describeMismatch), { separator: "; " })}`);
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

/** Reads a file as UTF-8; null if it cannot be read. */
function readText(file: string): Promise<string | null> {
  return readInput(file).then(
    (bytes) => bytes.toString("utf8"),
    () => null,
  );
}
