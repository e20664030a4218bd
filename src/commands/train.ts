import { noteUnusedKeys } from "../config/notes.js";
import type { TrainOutcome } from "../training/train.js";
import { findConfig, logConfig, trainOverrides } from "./configuration.js";
import type { TrainFlags } from "./options.js";
import { runIn } from "./run.js";
import { describeWeights } from "./weights.js";

/** `nextvlad train`: prints how far it came and where the snapshots are; returns the exit code. */
export async function runTrain(flags: TrainFlags): Promise<number> {
  const { resume, pretrain } = await openStart(flags);
  const config = await findConfig(flags, trainOverrides(flags), resume);
  const { outcome, exitCode } = await runIn(flags.saveDir, "train.log.jsonl", async ({ telemetry, signal }) => {
    if (resume !== null) for (const line of describeWeights(resume, flags, config)) telemetry.log.info(line);
    logConfig(telemetry.log, config, ["MODEL", "TRAIN", "VALID"]);
    for (const note of noteUnusedKeys(config)) telemetry.log.info(note);
    const { train } = await import("../training/train.js");
    return train(config, {
      saveDir: flags.saveDir,
      resume,
      resumeStep: flags.resumeStep ?? null,
      pretrain,
      overwrite: flags.overwrite ?? false,
      logIntervalSteps: flags.logInterval,
      validIntervalEpochs: flags.validInterval,
      signal,
      telemetry,
    });
  });
  process.stdout.write(`${formatOutcome(outcome)}\n`);
  return exitCode;
}

/** Opens the weights that the run begins with, if it does with any: for going on, the optimizer's state too. */
async function openStart({ resume, pretrain }: TrainFlags) {
  const { openWeights } = await import("../checkpoints/open-weights.js");
  return {
    resume: resume === undefined ? null : await openWeights(resume, { optimizer: true }),
    pretrain: pretrain === undefined ? null : await openWeights(pretrain, { optimizer: false }),
  };
}

function formatOutcome({ stopped, epochs, steps, lastSnapshot, best }: TrainOutcome): string {
  const lines = [`[TRAIN] train ${stopped ? "stopped" : "finished"}. \tepochs: ${epochs},\tsteps: ${steps}`];
  if (lastSnapshot !== null) lines.push(stopped ? `go on with: --resume ${lastSnapshot}` : `last snapshot: ${lastSnapshot}`);
  if (best !== null) lines.push(`best snapshot: ${best.path} (epoch ${best.epoch}, validation GAP ${best.gap.toFixed(4)})`);
  return lines.join("\n");
}
