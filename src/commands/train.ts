import type { FolderLock } from "../base/lock.js";
import { version } from "../base/package.js";
import { liesIn } from "../checkpoints/snapshot-layout.js";
import type { TrainOutcome } from "../training/options.js";
import { findConfig, logConfig, logTrainingNotes } from "./configuration.js";
import { wantsRandomSeed } from "./flag-values.js";
import { configOverrides, type TrainFlags } from "./flags.js";
import { prepareFolder, undoFolders } from "./folder.js";
import { resumeCommand } from "./go-on.js";
import { printLines } from "./output.js";
import { preflightTraining, type StartWeights } from "./preflight.js";
import { type Resume, resolveResume } from "./resume.js";
import { runIn } from "./run.js";
import { describeWeights } from "./weights.js";

/** Flags that apply only to the start of a run; resume commands omit them. */
const START_FLAGS = ["--resume-step", "--pretrain", "--overwrite"];

/** `nextvlad train`: prints the number of epochs and steps, and the paths of the snapshots; returns the exit code. */
export async function runTrain(flags: TrainFlags): Promise<number> {
  const found = await resolveResume(flags);
  const start = await openStart(found.path, flags.pretrain ?? null);
  return undoFolders(flags.saveDir, () => trainFrom(start, found, flags)).finally(() => closeStart(start));
}

async function trainFrom({ resume, pretrain }: StartWeights, { passedOver, notes }: Resume, flags: TrainFlags): Promise<number> {
  const config = await findConfig(flags, configOverrides("train", flags), resume);
  const preflight = await preflightTraining(config, flags, { resume, pretrain });
  // `False` draws a new seed from the clock each time, but a resumed run must have the same seed.
  const seed = wantsRandomSeed(flags.fixRandomSeed) ? ["--fix-random-seed", String(config.TRAIN.seed)] : [];
  const resumeFrom = (snapshot: string, added: readonly string[] = []): string => {
    const from = liesIn(flags.saveDir, snapshot) ? ["--resume"] : ["--resume", snapshot];
    return resumeCommand(process.argv.slice(2), [...from, ...seed, ...added], START_FLAGS);
  };
  return withSaveDir(flags.saveDir, async (lock, swept) => {
    const { outcome, exitCode } = await runIn(flags.saveDir, "train.log.jsonl", async ({ telemetry, ...run }) => {
      if (lock.staleHolder !== null) telemetry.log.info(`the previous run in this folder did not end normally: ${lock.staleHolder}`);
      if (swept.length > 0) telemetry.log.info(`cleared up after it: ${swept.join(", ")}`);
      for (const note of notes) telemetry.log.warn(note);
      if (resume !== null) for (const line of describeWeights(resume, flags, config)) telemetry.log.info(line);
      logConfig(telemetry.log, config, ["MODEL", "TRAIN", "VALID"]);
      logTrainingNotes(telemetry.log, config);
      const [shards = [], validShards = []] = preflight.requireReady(telemetry.log);
      const { DamageReport } = await import("../evaluation/damage-report.js");
      const { train } = await import("../training/train.js");
      return train(config, {
        ...run,
        shards,
        validShards,
        telemetry,
        damage: new DamageReport(flags.saveDir, "train", telemetry.log),
        saveDir: flags.saveDir,
        resume,
        resumeStep: flags.resumeStep ?? null,
        passedOver,
        pretrain,
        overwrite: flags.overwrite ?? false,
        logIntervalSteps: flags.logInterval,
        validIntervalEpochs: flags.validInterval,
        saveInterval: flags.saveInterval ?? null,
        keep: flags.keep ?? null,
        lockText: lock.text,
        resumeCommand: resumeFrom,
        version: version(),
      });
    });
    await printLines(...formatOutcome(outcome, resumeFrom));
    return exitCode;
  });
}

/** Creates the save-dir if it is missing, locks it against other runs, removes temporary files of a killed run, and runs `work`. */
async function withSaveDir(saveDir: string, work: (lock: FolderLock, swept: readonly string[]) => Promise<number>): Promise<number> {
  const { lockFolder } = await import("../base/lock.js");
  const { removeLeftovers } = await import("../base/files.js");
  await prepareFolder(saveDir);
  const lock = await lockFolder(saveDir);
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

function formatOutcome(
  { stopped, epochs, steps, lastSnapshot, best }: TrainOutcome,
  resumeFrom: (snapshot: string) => string,
): readonly string[] {
  const lines = [`[TRAIN] train ${stopped ? "stopped" : "finished"}. \tepochs: ${epochs},\tsteps: ${steps}`];
  if (lastSnapshot !== null) lines.push(`last snapshot: ${lastSnapshot}`);
  if (best !== null) lines.push(`best snapshot: ${best.path} (epoch ${best.epoch}, validation GAP ${best.gap.toFixed(4)})`);
  if (stopped && lastSnapshot !== null) lines.push(`resume with: ${resumeFrom(lastSnapshot)}`);
  return lines;
}
