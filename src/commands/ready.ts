import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { listSnapshots, readSnapshotState } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import { describeFileList, type FileList, isSamePipe } from "../data/file-list.js";
import { videoShape } from "../data/video-shape.js";
import { findObstacles, joinProblems, type Needs, problemOf } from "../inspection/readiness.js";
import { prepareFolder } from "./folder.js";
import type { EvalFlags, InferFlags, TrainFlags } from "./options.js";

/** Result of the checks before a run. */
export interface Readiness {
  /**
   * Logs notes and warnings, throws the problems that prevent the run, and returns the shards of each split. Each list is read only once, because it may be a
   * pipe.
   */
  conclude(log: Logger): readonly (readonly string[])[];
}

/** The weights that a training run starts from, if any. */
export interface StartWeights {
  readonly resume: WeightSource | null;
  readonly pretrain: WeightSource | null;
}

/**
 * Checks everything that training needs, before TensorFlow is loaded: the shards of its splits, the eigen file, the save-dir, and the disk space for snapshots.
 * Throws the problem (NOT_READY if there are several) immediately if the save-dir cannot hold a log, else in `conclude`. Throws BAD_CONFIG if both splits are
 * the same pipe.
 */
export async function checkTraining(config: Config, flags: TrainFlags, { resume, pretrain }: StartWeights): Promise<Readiness> {
  const { MODEL, TRAIN, VALID } = config;
  const expected = { shape: videoShape(MODEL, "required"), onCorrupt: TRAIN.on_corrupt };
  if (flags.validInterval > 0 && isSamePipe(TRAIN.filelist, VALID.filelist)) {
    throw new NextvladError("BAD_CONFIG", "TRAIN.filelist and VALID.filelist are the same pipe, so training videos would be validated on", {
      key: "VALID.filelist",
      found: describeFileList(VALID.filelist),
      remedy: "write the validation shards to a file list and name it, or turn validation off with --valid-interval 0",
    });
  }
  const validation = flags.validInterval > 0 ? [{ list: VALID.filelist, ...expected }] : [];
  return check(flags.saveDir, {
    splits: [{ list: TRAIN.filelist, ...expected }, ...validation],
    // Weights contain the eigenvalues, except some --pretrain weights, for which the eigen file is checked when it is read.
    eigen:
      resume === null && pretrain === null && MODEL.eigen_file !== null
        ? { file: MODEL.eigen_file, features: MODEL.video_feature_size }
        : null,
    space: {
      folder: flags.saveDir,
      snapshots: await countSnapshots(config, flags, resume),
      model: MODEL,
      inTheWay: flags.overwrite || flags.keep !== undefined ? await listSnapshots(flags.saveDir) : [],
    },
  });
}

/**
 * Returns how many snapshots the run will leave: one per remaining epoch, each of at least one step; with --keep, those kept, best, and one that is being
 * written.
 */
async function countSnapshots({ TRAIN }: Config, { keep, saveInterval }: TrainFlags, resume: WeightSource | null): Promise<number> {
  const state = resume === null || resume.snapshot === null ? null : await readSnapshotState(resume.snapshot).catch(() => null);
  const ahead = Math.max(0, Math.min(TRAIN.epoch - (state?.epoch ?? 0), TRAIN.max_iter - (state?.step ?? 0)));
  if (keep === undefined) return ahead;
  return saveInterval === undefined ? Math.min(ahead, keep + 2) : keep + 2;
}

/** Checks the shards that `eval` or `infer` will read, the file of class names, and the save-dir. Throws as `checkTraining` does. */
export async function checkReading(
  { MODEL, TEST, INFER }: Config,
  section: "TEST" | "INFER",
  flags: Pick<EvalFlags | InferFlags, "saveDir" | "labels">,
): Promise<Readiness> {
  const split =
    section === "TEST"
      ? { list: TEST.filelist, shape: videoShape(MODEL, "required"), onCorrupt: TEST.on_corrupt }
      : {
          list: INFER.filelist,
          shape: videoShape(MODEL, "optional"),
          onCorrupt: INFER.on_corrupt,
          repeats: "each time, into results" as const,
        };
  const { readLabelNames } = await import("../results/label-names.js");
  const names = flags.labels === undefined ? null : await problemOf(readLabelNames(flags.labels, MODEL.num_classes));
  return check(flags.saveDir, { splits: [split], eigen: null, space: null }, names === null ? [] : [names]);
}

/** Checks the labeled shards of `ensemble`, except their labels. Repeated shards are read once: `ensemble` matches videos by ID. */
export async function checkTruth({ MODEL, TEST }: Config, list: FileList, saveDir: string): Promise<Readiness> {
  const split = { list, shape: videoShape(MODEL, "optional"), onCorrupt: TEST.on_corrupt, repeats: "once" as const };
  return check(saveDir, { splits: [split], eigen: null, space: null, skipOption: "--set TEST.on_corrupt=skip-record" });
}

async function check(saveDir: string, needs: Needs, others: readonly NextvladError[] = []): Promise<Readiness> {
  const folderProblem = await problemOf(prepareFolder(saveDir));
  const { lists, problems, warnings, notes } = await findObstacles(
    folderProblem === null ? needs : { ...needs, space: null },
    process.cwd(),
  );
  const obstacle = joinProblems([...(folderProblem === null ? [] : [folderProblem]), ...problems, ...others]);
  if (folderProblem !== null && obstacle !== null) throw obstacle;
  return {
    conclude(log) {
      for (const note of notes) log.info(note);
      for (const warning of warnings) log.warn(warning);
      if (obstacle !== null) throw obstacle;
      return lists;
    },
  };
}
