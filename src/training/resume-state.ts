import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import { findPaddleStep } from "../checkpoints/paddle-step.js";
import { type RunState, readSnapshotState, type WrittenBy } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";

/** Where a run stands, and what there is to say of how that is known. */
export interface ResumeState {
  readonly state: RunState;
  /** What wrote the snapshot; null where that is not known. */
  readonly writtenBy: WrittenBy | null;
  /** For the log. */
  readonly told: string;
}

/**
 * Where the run that weights come from stood. A snapshot says it. Of Paddle's weights the step is found (see `findPaddleStep`), and the epochs finished
 * are read off a name like NEXTVLAD_epoch5; where it has none, epochs count from 0 again, as in PaddleVideo. `seed` is the config's, which goes on.
 * Throws BAD_USAGE, BAD_WEIGHTS and what reading the state throws.
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
  const { step, told } = await findPaddleStep(source, resumeStep);
  const number = /epoch_?(\d+)/.exec(basename(source.path))?.[1];
  const epoch = number === undefined ? 0 : Number(number) + 1;
  const epochs = number === undefined ? "its name tells no epoch, so epochs count from 0, as in PaddleVideo" : "the epoch is its name's";
  const validated = epoch > 0 ? epoch - 1 : null;
  const state = { step, epoch, step_in_epoch: 0, seed, best: null, validated_epoch: validated, shards: null };
  return { state, writtenBy: null, told: `${told}; ${epochs}` };
}
