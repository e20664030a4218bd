import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { isSet } from "../base/interval.js";
import { listSnapshots, readSnapshotState } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import { describeFileList, type FileList, isSamePipe } from "../data/file-list.js";
import type { Shard } from "../data/shard.js";
import { videoShape } from "../data/video.js";
import { joinProblems, type Needs, preflight, problemOf } from "../inspection/preflight.js";
import { readLabelNames } from "../results/label-names.js";
import type { EvalFlags, InferFlags, TrainFlags } from "./flags.js";
import { prepareDirectory } from "./output-directory.js";

/** Result of the checks before a run. */
export interface Preflight {
  /** Logs notes and warnings, throws the problems that prevent the run, and returns the shards of each list: a list from a pipe cannot be read again. */
  requireReady(log: Logger): readonly (readonly Shard[])[];
}

/** The weights that a training run starts from, if any. */
export interface StartWeights {
  readonly resume: WeightSource | null;
  readonly pretrain: WeightSource | null;
}

/**
 * Checks everything that training needs, before TensorFlow is loaded: the shards of its splits, the eigen file, the save-dir, and the disk space for snapshots.
 * Throws the problem (NOT_READY if there are several) immediately if the save-dir cannot hold a log, else in `requireReady`. Throws BAD_CONFIG if both splits
 * are the same pipe.
 */
export async function preflightTraining(config: Config, flags: TrainFlags, { resume, pretrain }: StartWeights): Promise<Preflight> {
  const { MODEL, TRAIN, VALID } = config;
  const validates = isSet(flags.validInterval);
  if (validates && isSamePipe(TRAIN.filelist, VALID.filelist)) {
    throw new NextvladError("BAD_CONFIG", "TRAIN.filelist and VALID.filelist are the same pipe, so training videos would be validated on", {
      key: "VALID.filelist",
      found: describeFileList(VALID.filelist),
      remedy: "write the validation shards to a file list and pass it, or disable validation with --valid-interval 0",
    });
  }
  return check(flags.saveDir, {
    lists: [TRAIN.filelist, ...(validates ? [VALID.filelist] : [])],
    shape: videoShape(MODEL, "required"),
    onCorrupt: TRAIN.on_corrupt,
    // Weights contain the eigenvalues, except some --pretrain weights, for which the eigen file is checked when it is read.
    eigen:
      resume === null && pretrain === null && MODEL.eigen_file !== null
        ? { file: MODEL.eigen_file, features: MODEL.video_feature_size }
        : null,
    space: {
      directory: flags.saveDir,
      snapshots: await countSnapshots(config, flags, resume),
      model: MODEL,
      ema: TRAIN.ema_decay !== null,
      reusable: flags.overwrite || flags.keep !== undefined ? await listSnapshots(flags.saveDir) : [],
    },
  });
}

/**
 * Returns how many snapshots the run will leave: one per remaining epoch, each of at least one step; with --keep, those kept, best, and one that is being
 * written.
 */
async function countSnapshots(
  { TRAIN }: Config,
  { keep, saveInterval, validInterval }: TrainFlags,
  resume: WeightSource | null,
): Promise<number> {
  const state = resume === null || resume.snapshot === null ? null : await readSnapshotState(resume.snapshot).catch(() => null);
  const remaining = Math.max(0, Math.min(TRAIN.epoch - (state?.epoch ?? 0), TRAIN.max_iter - (state?.step ?? 0)));
  if (keep === undefined) return remaining;
  return saveInterval === undefined && !("steps" in validInterval) ? Math.min(remaining, keep + 2) : keep + 2;
}

/** Checks the shards that `eval` or `infer` will read, the file of class names, and the save-dir. Throws as `preflightTraining` does. */
export async function preflightReading(
  { MODEL, TEST, INFER }: Config,
  section: "TEST" | "INFER",
  flags: Pick<EvalFlags | InferFlags, "saveDir" | "labels">,
): Promise<Preflight> {
  const names = flags.labels === undefined ? null : await problemOf(readLabelNames(flags.labels, MODEL.num_classes));
  const shards =
    section === "TEST"
      ? { lists: [TEST.filelist], shape: videoShape(MODEL, "required"), onCorrupt: TEST.on_corrupt }
      : {
          lists: [INFER.filelist],
          shape: videoShape(MODEL, "optional"),
          onCorrupt: INFER.on_corrupt,
          repeats: "each time, into results" as const,
        };
  return check(flags.saveDir, { ...shards, eigen: null, space: null }, names === null ? [] : [names]);
}

/** Checks the labeled shards of `ensemble`, except their labels. Repeated shards are read once: `ensemble` matches videos by ID. */
export async function preflightEnsemble({ MODEL, TEST }: Config, list: FileList, saveDir: string): Promise<Preflight> {
  return check(saveDir, {
    lists: [list],
    shape: videoShape(MODEL, "optional"),
    onCorrupt: TEST.on_corrupt,
    repeats: "once",
    eigen: null,
    space: null,
    skipOption: "--set TEST.on_corrupt=skip-record",
  });
}

async function check(saveDir: string, needs: Needs, otherProblems: readonly NextvladError[] = []): Promise<Preflight> {
  const directoryProblem = await problemOf(prepareDirectory(saveDir));
  const { lists, problems, warnings, notes } = await preflight(
    directoryProblem === null ? needs : { ...needs, space: null },
    process.cwd(),
  );
  const error = joinProblems([...(directoryProblem === null ? [] : [directoryProblem]), ...problems, ...otherProblems]);
  if (directoryProblem !== null && error !== null) throw error;
  return {
    requireReady(log) {
      for (const note of notes) log.info(note);
      for (const warning of warnings) log.warn(warning);
      if (error !== null) throw error;
      return lists;
    },
  };
}
