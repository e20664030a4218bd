import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import { findPaddleStep } from "../checkpoints/paddle-step.js";
import { type RunState, readSnapshotState, type WrittenBy } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";

/** The state of a run to resume, and where it comes from. */
export interface ResumeState {
  readonly state: RunState;
  /** What wrote the snapshot; null if unknown. */
  readonly writtenBy: WrittenBy | null;
  /** How the state is known, for the log. */
  readonly told: string;
}

/**
 * Returns the state of the run that weights come from. A snapshot contains it. For Paddle's weights, the step is found by `findPaddleStep`, and the number of
 * finished epochs by a name like NEXTVLAD_epoch5; without one, epochs count from 0 again, as in PaddleVideo, and `seed` is the config's seed.
 * Throws BAD_USAGE if `resumeStep` is given for a snapshot, BAD_WEIGHTS if the step is unknown or invalid, and what reading the state throws.
 */
export async function readResumeState(source: WeightSource, seed: number, resumeStep: number | null): Promise<ResumeState> {
  if (source.snapshot !== null) {
    if (resumeStep === null) {
      const { format_version, written_by: writtenBy, files, ...state } = await readSnapshotState(source.snapshot);
      return { state, writtenBy, told: "as its state says" };
    }
    const remedy = "leave the flag out; it is for Paddle's weights that have lost count";
    throw new NextvladError("BAD_USAGE", "a snapshot knows its own step", { file: source.path, key: "--resume-step", remedy });
  }
  const { step, origin } = await findPaddleStep(source, resumeStep);
  const number = /epoch_?(\d+)/.exec(basename(source.path))?.[1];
  const epoch = number === undefined ? 0 : Number(number) + 1;
  const epochs = number === undefined ? "its name tells no epoch, so epochs count from 0, as in PaddleVideo" : "the epoch is its name's";
  const validated = epoch > 0 ? epoch - 1 : null;
  const state = { step, epoch, step_in_epoch: 0, seed, best: null, validated_epoch: validated, shards: null };
  return { state, writtenBy: null, told: `${origin}; ${epochs}` };
}
