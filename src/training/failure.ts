import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import { adviseSkipping } from "../data/corrupt-records.js";
import { fingerprintList } from "../data/shard.js";
import type { Training } from "./start.js";

/**
 * Handles an error that ended a run, and returns the error to throw: with the last snapshot and the command that resumes from it and, for NOT_FINITE, the list
 * of suspect batches. Saves the last step, except after an error within a step, when only some of the weights are updated.
 */
export async function explainFailure(training: Training, error: unknown): Promise<unknown> {
  const explained = await explain(training, error);
  const { state, newConfigFile } = training;
  // A run that failed before its first step leaves no config.
  if (newConfigFile !== null && state.run.step === state.firstStep) await rm(newConfigFile, { force: true }).catch(() => undefined);
  return explained;
}

async function explain(training: Training, error: unknown): Promise<unknown> {
  const { options, saver, losses, state } = training;
  if (error instanceof NextvladError && error.code === "BAD_SNAPSHOT" && options.resume !== null) {
    await saver.close();
    return new NextvladError(error.code, error.what, { ...error.details, file: options.resume.path }, error.cause);
  }
  if (error instanceof NextvladError && error.code === "NOT_FINITE") {
    await saver.close();
    return losses.explain(error, lastSnapshot(training));
  }
  if (state.isUpdating) await saver.close();
  const saveError = state.isUpdating ? null : await saveLastStep(training, error);
  return adviseResuming(training, error, saveError);
}

/** Saves the last step; returns the error of saving, or null. */
async function saveLastStep({ options, saver, state }: Training, error: unknown): Promise<unknown> {
  if (state.run.step === state.firstStep) return null;
  const corruptShard = error instanceof NextvladError && error.details.damaged !== undefined ? error.details.file : undefined;
  if (corruptShard !== undefined) {
    // The resumed run accepts a valid copy of this shard.
    state.run = { ...state.run, shards: { ...state.run.shards, ...fingerprintList(options.shards, basename(corruptShard)) } };
  }
  try {
    await saver.save();
    await saver.flush();
    return null;
  } catch (saveError) {
    return saveError;
  }
}

/** Adds the last snapshot, the command that resumes from it, and `saveError` (of saving the last step, or null) to the error, or logs them if it is unexpected. */
function adviseResuming(training: Training, error: unknown, saveError: unknown): unknown {
  const { resumeCommand, telemetry } = training.options;
  const snapshot = lastSnapshot(training);
  const notes: string[] = [];
  if (saveError !== null && saveError !== error) {
    notes.push(`cannot save the last step (${(saveError as Error).message.replace(/\.$/, "")})`);
  }
  const commands: string[] = [];
  if (snapshot !== null) {
    notes.push(`training stopped after ${training.state.run.step} steps; the last snapshot is ${snapshot}`);
    commands.push(`resume with: ${resumeCommand(snapshot)}`);
    const isCorrupt = error instanceof NextvladError && error.details.damaged !== undefined;
    if (isCorrupt) commands.push(`or, to skip corrupt records: ${resumeCommand(snapshot, ["--on-corrupt", "skip-record"])}`);
  }
  if (error instanceof NextvladError) {
    const { code, what, details, cause } = adviseSkipping(error);
    const remedy = [details.remedy, ...notes].filter((part) => part !== undefined).join("; ");
    return new NextvladError(code, what, { ...details, ...(remedy === "" ? {} : { remedy }), commands }, cause);
  }
  for (const line of [...notes, ...commands]) telemetry.log.warn(line);
  return error;
}

/** Returns the last written snapshot if it still exists, else null. */
function lastSnapshot({ saver }: Training): string | null {
  return saver.lastWritten !== null && existsSync(saver.lastWritten) ? saver.lastWritten : null;
}
