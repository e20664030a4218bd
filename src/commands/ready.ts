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

/** What was found before a run begins. */
export interface Readiness {
  /** Logs what is worth knowing, throws what prevents the run, and returns the shards of each split: their lists are read once, as they may be pipes. */
  conclude(log: Logger): readonly (readonly string[])[];
}

/** The weights that a training begins with, if it does with any. */
export interface StartWeights {
  readonly resume: WeightSource | null;
  readonly pretrain: WeightSource | null;
}

/**
 * Looks at all that a training needs before TensorFlow is loaded: the shards of its splits, the eigen file, the save-dir and the space for its
 * snapshots. Throws what is wrong (NOT_READY where it is several things) at once where the save-dir cannot have a log, and else when it is concluded.
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
    // Weights bring their own, but for some of those to start over from, which are seen to when they are read.
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

/** How many snapshots there will be: one an epoch that is left, of one step at least; with --keep, those, the best, and one that is being written. */
async function countSnapshots({ TRAIN }: Config, { keep, saveInterval }: TrainFlags, resume: WeightSource | null): Promise<number> {
  const state = resume === null || resume.snapshot === null ? null : await readSnapshotState(resume.snapshot).catch(() => null);
  const ahead = Math.max(0, Math.min(TRAIN.epoch - (state?.epoch ?? 0), TRAIN.max_iter - (state?.step ?? 0)));
  if (keep === undefined) return ahead;
  return saveInterval === undefined ? Math.min(ahead, keep + 2) : keep + 2;
}

/** Looks at the shards that `eval` or `infer` is going to read, at the names of classes, and at the save-dir. Throws as `checkTraining` does. */
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

/** Checks the labelled shards of `ensemble`, except their labels. Repeated shards are read once: `ensemble` matches videos by ID. */
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
