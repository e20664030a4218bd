import { NextvladError } from "../base/errors.js";
import type { TrainFlags } from "./flags.js";

/** Where a run resumes, and notes on how that was determined. */
export interface Resume {
  /** A snapshot or other weights; null to start from the beginning. */
  readonly path: string | null;
  /** Names of newer snapshots that are corrupt. */
  readonly passedOver: readonly string[];
  /** Warnings for the log. */
  readonly notes: readonly string[];
}

/**
 * Resolves `--resume`: the given snapshot, or the newest valid one in the save-dir. If the save-dir has no snapshots, a run with `--config` starts from the
 * beginning, so that the same command can be repeated each time its machine is preempted. Throws BAD_SNAPSHOT if all snapshots are corrupt, or if there are
 * none and `--config` is missing.
 */
export async function resolveResume({ resume, saveDir, config }: TrainFlags): Promise<Resume> {
  if (resume !== true) return { path: resume ?? null, passedOver: [], notes: [] };
  const { findNewestSnapshot } = await import("../checkpoints/snapshot.js");
  const { path, skipped } = await findNewestSnapshot(saveDir);
  const notes = skipped.map(({ name, error }) => `--resume skips ${name}, which is corrupt: ${error.message}`);
  const names = skipped.map(({ name }) => name);
  if (path !== null) return { path, passedOver: names, notes };
  if (skipped.length > 0) {
    const remedy = "start anew in another --save-dir, or here with --overwrite and without --resume";
    throw new NextvladError("BAD_SNAPSHOT", `no snapshot here is whole: ${notes.join(" ")}`, { file: saveDir, key: "--resume", remedy });
  }
  if (config !== undefined)
    return { path: null, passedOver: [], notes: [`--resume finds no snapshot in ${saveDir}: starting from the beginning`] };
  const remedy = "name a snapshot, or the --save-dir of the run; with --config, a run without snapshots starts from the beginning";
  throw new NextvladError("BAD_SNAPSHOT", "there is no snapshot here to go on from", { file: saveDir, key: "--resume", remedy });
}
