import { NextvladError } from "../base/errors.js";
import { isSet } from "../base/interval.js";
import type { DirectoryLock } from "../base/lock.js";
import { version } from "../base/package.js";
import { chooseThreads } from "../base/threads.js";
import { emaFile, isInside } from "../checkpoints/snapshot-layout.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { originsOf, withSeed } from "../config/load.js";
import type { Config } from "../config/schema.js";
import type { Cluster } from "../distributed/cluster.js";
import { limitDevices } from "../distributed/devices.js";
import { startReaderThreads } from "../passes/reader-threads.js";
import type { StartOptions, TrainOutcome } from "../training/options.js";
import { findConfig, logConfig, logTrainingNotes } from "./configuration.js";
import { wantsRandomSeed } from "./flag-values.js";
import { configOverrides, type TrainFlags } from "./flags.js";
import { printToStderr } from "./output.js";
import { prepareDirectory, removeDirectoriesOnError } from "./output-directory.js";
import { type Preflight, preflightTraining, type StartWeights } from "./preflight.js";
import { findCluster, launch, silentTelemetry } from "./ranks.js";
import { assertReportReplaceable, printWithReport, reportIn } from "./report.js";
import { resumeCommand } from "./resume-command.js";
import { runIn } from "./run.js";
import { assertTrainsSegments } from "./segments.js";
import { describeWeights } from "./weights.js";

/** Flags that apply only to the start of a run; resume commands omit them. */
const START_FLAGS = ["--resume-step", "--pretrain", "--overwrite"];

/** `nextvlad train`: prints the number of epochs and steps, and the paths of the snapshots; returns the exit code. */
export async function runTrain(flags: TrainFlags): Promise<number> {
  if (flags.smoke) return (await import("./smoke.js")).runSmoke(flags);
  const resumePoint = await resolveResume(flags);
  const start = await openStart(resumePoint.path, flags.pretrain ?? null);
  return removeDirectoriesOnError(flags.saveDir, () => trainFrom(start, resumePoint, flags)).finally(() => closeStart(start));
}

async function trainFrom({ resume, pretrain }: StartWeights, { skipped, notes }: ResumePoint, flags: TrainFlags): Promise<number> {
  const config = await findTrainConfig(flags, resume);
  assertTrainsSegments(config, flags);
  const cluster = findCluster(flags);
  const { devices, note } = chooseDevices(config, cluster, flags);
  assertDivisible(config, devices);
  // A seed from the clock must be the same on all ranks and in a resumed run.
  const seed = wantsRandomSeed(flags.fixRandomSeed) ? ["--fix-random-seed", String(config.TRAIN.seed)] : [];
  if (cluster === null && devices > 1) {
    if (note !== null) printToStderr(note);
    return launch({ devices, useGpu: config.TRAIN.use_gpu, threads: flags.threads, added: seed });
  }
  assertStoppable(flags);
  const limitVideos = flags.limitVideos ?? null;
  assertLimit(limitVideos, config);
  startReaderThreads(config, "TRAIN", flags.threads);
  const preflight = await preflightTraining(config, flags, { resume, pretrain });
  const start = {
    resume,
    resumeStep: flags.resumeStep ?? null,
    skippedSnapshots: skipped,
    pretrain,
    overwrite: flags.overwrite ?? false,
    limitVideos,
  };
  if (cluster !== null && cluster.rank > 0) return followRank(config, cluster, preflight, start, flags);
  const resumeFrom = (snapshot: string, added: readonly string[] = []): string => {
    const from = isInside(flags.saveDir, snapshot) ? ["--resume"] : ["--resume", snapshot];
    return resumeCommand(process.argv.slice(2), [...from, ...seed, ...added], START_FLAGS);
  };
  if (flags.report) await assertReportReplaceable(reportIn(flags.saveDir), flags.overwrite);
  return withSaveDir(flags.saveDir, async (lock, leftovers) => {
    const logOptions = { name: "train.log.jsonl", quiet: flags.quiet, verbose: flags.verbose };
    const { outcome, exitCode } = await runIn(flags.saveDir, logOptions, async ({ telemetry, ...run }) => {
      if (lock.staleHolder !== null) telemetry.log.info(`the previous run in this directory did not end normally: ${lock.staleHolder}`);
      if (leftovers.length > 0) telemetry.log.info(`removed its temporary files: ${leftovers.join(", ")}`);
      for (const note of notes) telemetry.log.warn(note);
      if (resume !== null) for (const line of describeWeights(resume, flags, config)) telemetry.log.info(line);
      logConfig(telemetry.log, config, ["MODEL", "TRAIN", "VALID"]);
      logTrainingNotes(telemetry.log, config, cluster?.addresses.length ?? 1);
      if (note !== null) telemetry.log.info(note);
      if (cluster !== null) telemetry.log.info(`rank 0 of ${cluster.addresses.length}: ${cluster.addresses.join(", ")}`);
      const [shards = [], validShards = []] = preflight.requireReady(telemetry.log);
      const { SkippedRecordReport } = await import("../passes/skipped-records.js");
      const { train } = await import("../training/train.js");
      return train(config, {
        ...run,
        ...start,
        cluster,
        shards,
        validShards,
        telemetry,
        skipped: new SkippedRecordReport(flags.saveDir, "train", telemetry.log),
        threads: chooseThreads(flags.threads ?? null, (message) => telemetry.log.warn(message)),
        saveDir: flags.saveDir,
        logIntervalSteps: flags.logInterval,
        histogramIntervalSteps: flags.histogramInterval ?? 0,
        validInterval: flags.validInterval,
        earlyStop: flags.earlyStop ?? null,
        fullRanking: flags.fullRanking ?? false,
        saveInterval: flags.saveInterval ?? null,
        keep: flags.keep ?? null,
        lockText: lock.text,
        resumeCommand: resumeFrom,
        version: version(),
      });
    });
    const command = outcome.stopped && outcome.lastSnapshot !== null ? resumeFrom(outcome.lastSnapshot) : null;
    await printWithReport(flags, toJson(outcome, command), formatOutcome(outcome, config.TRAIN.ema_decay !== null, command));
    return exitCode;
  });
}

/**
 * Returns the config. A resumed run keeps its seed unless the config, `--set` or a number in `--fix-random-seed` gives one: `--fix-random-seed False` draws a seed
 * only for a new run.
 */
async function findTrainConfig(flags: TrainFlags, resume: WeightSource | null): Promise<Config> {
  const config = await findConfig(flags, configOverrides("train", flags), resume);
  const origin = originsOf(config).get("TRAIN.seed");
  const isGiven = origin !== undefined && !(origin === "--fix-random-seed" && wantsRandomSeed(flags.fixRandomSeed));
  if (isGiven || resume === null || resume.snapshot === null) return config;
  const { readSnapshotState } = await import("../checkpoints/snapshot.js");
  return withSeed(config, (await readSnapshotState(resume.snapshot)).seed);
}

/** Returns the number of processes that train: those of the cluster, `--devices`, or at most TRAIN.num_gpus, with a note for the log. */
function chooseDevices({ TRAIN }: Config, cluster: Cluster | null, flags: TrainFlags): ReturnType<typeof limitDevices> {
  const given = cluster?.addresses.length ?? flags.devices;
  if (given !== undefined) return { devices: given, note: null };
  const maxProcesses = Math.floor(TRAIN.batch_size / TRAIN.accumulate);
  return limitDevices({ numGpus: TRAIN.num_gpus, useGpu: TRAIN.use_gpu, maxProcesses });
}

/** Throws BAD_CONFIG if one of several ranks would have no videos, or a part of its share none. The config itself checks this for one process. */
function assertDivisible({ TRAIN: { batch_size: batchSize, accumulate } }: Config, ranks: number): void {
  if (batchSize >= ranks * accumulate) return;
  const what = `the batch is too small for ${ranks} processes, each with TRAIN.accumulate = ${accumulate} parts`;
  const values = { key: "TRAIN.batch_size", expected: `at least ${ranks * accumulate}`, found: batchSize };
  throw new NextvladError("BAD_CONFIG", what, { ...values, remedy: "use fewer devices or parts, or a larger --batch-size" });
}

/** Throws BAD_USAGE if the videos of an epoch would not fill a batch. */
function assertLimit(limitVideos: number | null, { TRAIN: { batch_size: batchSize } }: Config): void {
  if (limitVideos === null || limitVideos >= batchSize) return;
  const values = { key: "--limit-videos", expected: `at least one batch, ${batchSize} videos`, found: limitVideos };
  throw new NextvladError("BAD_USAGE", "training drops incomplete batches", {
    ...values,
    remedy: "use a larger limit, or a smaller --batch-size",
  });
}

/** Throws BAD_USAGE if a run could never stop early, because it does not validate. */
function assertStoppable({ earlyStop, validInterval }: TrainFlags): void {
  if (earlyStop === undefined || isSet(validInterval)) return;
  const remedy = "omit --early-stop, or --valid-interval 0";
  throw new NextvladError("BAD_USAGE", "early stopping needs validations", { key: "--early-stop", remedy });
}

/** Trains as another rank than 0: without output, unless it fails, and without files. */
async function followRank(
  config: Config,
  cluster: Cluster,
  preflight: Preflight,
  start: Omit<StartOptions, "saveDir" | "telemetry">,
  { saveDir, threads }: TrainFlags,
): Promise<number> {
  const { follow } = await import("../training/follow.js");
  const telemetry = await silentTelemetry();
  const [shards = [], validShards = []] = preflight.requireReady(telemetry.log);
  await follow(config, {
    ...start,
    saveDir,
    telemetry,
    cluster,
    shards,
    validShards,
    threads: chooseThreads(threads ?? null, () => undefined),
    version: version(),
  });
  return 0;
}

/** Where a run resumes, and notes on how that was determined. */
interface ResumePoint {
  /** A snapshot or other weights; null to start from the beginning. */
  readonly path: string | null;
  /** Names of newer snapshots that are corrupt. */
  readonly skipped: readonly string[];
  /** Warnings for the log. */
  readonly notes: readonly string[];
}

/**
 * Resolves `--resume`: the given snapshot, or the newest valid one in the save-dir. If the save-dir has no snapshots, a run with `--config` starts from the
 * beginning, so that the same command can be repeated each time its machine is preempted. Throws BAD_SNAPSHOT if all snapshots are corrupt, or if there are
 * none and `--config` is missing.
 */
async function resolveResume({ resume, saveDir, config }: TrainFlags): Promise<ResumePoint> {
  if (resume !== true) return { path: resume ?? null, skipped: [], notes: [] };
  const { findNewestSnapshot } = await import("../checkpoints/snapshot.js");
  const { path, skipped } = await findNewestSnapshot(saveDir);
  const notes = skipped.map(({ name, error }) => `--resume skips the corrupt snapshot ${name}: ${error.message}`);
  if (path !== null) return { path, skipped: skipped.map(({ name }) => name), notes };
  if (skipped.length > 0) {
    const remedy = "start again in another --save-dir, or here with --overwrite and without --resume";
    throw new NextvladError("BAD_SNAPSHOT", `all snapshots are corrupt: ${notes.join(" ")}`, { file: saveDir, key: "--resume", remedy });
  }
  if (config !== undefined) {
    return { path: null, skipped: [], notes: [`--resume finds no snapshot in ${saveDir}: starting from the beginning`] };
  }
  const remedy = "pass a snapshot, or the --save-dir of the run; with --config, a run without snapshots starts from the beginning";
  throw new NextvladError("BAD_SNAPSHOT", "no snapshot to resume from", { file: saveDir, key: "--resume", remedy });
}

/** Creates the save-dir if it is missing, locks it against other runs, removes temporary files of a killed run, and runs `work`. */
async function withSaveDir(saveDir: string, work: (lock: DirectoryLock, leftovers: readonly string[]) => Promise<number>): Promise<number> {
  const { lockDirectory } = await import("../base/lock.js");
  const { removeLeftovers } = await import("../base/leftovers.js");
  await prepareDirectory(saveDir);
  const lock = await lockDirectory(saveDir);
  try {
    return await work(lock, await removeLeftovers(saveDir));
  } finally {
    await lock.release();
  }
}

/** Opens the weights that the run starts from, if any; to resume, with the optimizer state. */
async function openStart(resumePath: string | null, pretrainPath: string | null): Promise<StartWeights> {
  const { openWeights } = await import("../checkpoints/open-weights.js");
  const resume = resumePath === null ? null : await openWeights(resumePath, { optimizer: true });
  try {
    return { resume, pretrain: pretrainPath === null ? null : await openWeights(pretrainPath, { optimizer: false }) };
  } catch (error) {
    await resume?.close();
    throw error;
  }
}

/** Closes the weights, whether the run succeeded or not; those that were read completely are already closed. */
async function closeStart({ resume, pretrain }: StartWeights): Promise<void> {
  await resume?.close();
  await pretrain?.close();
}

function toJson({ stopped, stoppedEarly, epochs, steps, lastSnapshot, best, validation }: TrainOutcome, command: string | null) {
  return { stopped, stopped_early: stoppedEarly, epochs, steps, last_snapshot: lastSnapshot, best, validation, resume_command: command };
}

function formatOutcome(
  { stopped, stoppedEarly, epochs, steps, lastSnapshot, best }: TrainOutcome,
  hasAverages: boolean,
  command: string | null,
): readonly string[] {
  const lines = [`[TRAIN] train ${stopped ? "stopped" : "finished"}. \tepochs: ${epochs},\tsteps: ${steps}`];
  if (stoppedEarly !== null) lines.push(`stopped early: ${stoppedEarly}`);
  if (lastSnapshot !== null) lines.push(`last snapshot: ${lastSnapshot}`);
  if (best !== null) {
    const { epoch, step, gap, map } = best;
    const [weights, measured] = hasAverages ? [` and its EMA weights, ${emaFile(best.path)}`, " of the EMA weights"] : ["", ""];
    const place = step === undefined ? `epoch ${epoch}` : `epoch ${epoch}, step ${step}`;
    const value = map === undefined ? `GAP${measured} ${gap.toFixed(4)}` : `mAP${measured} ${map.toFixed(4)}`;
    lines.push(`best snapshot: ${best.path}${weights} (${place}, validation ${value})`);
  }
  if (command !== null) lines.push(`resume with: ${command}`);
  return lines;
}
