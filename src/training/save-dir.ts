import { join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { readInput } from "../base/input.js";
import { assertReplaceable } from "../base/output-checks.js";
import {
  bestSnapshot,
  isForeignDirectory,
  listSnapshots,
  parseSnapshotName,
  type RunState,
  readSnapshotState,
} from "../checkpoints/snapshot.js";
import { CONFIG } from "../checkpoints/snapshot-layout.js";
import { formatConfig } from "../config/keys.js";
import { loadConfig } from "../config/load.js";
import type { Config } from "../config/schema.js";
import type { StartOptions } from "./options.js";

/**
 * Checks that a run, new (null) or resumed, overwrites nothing in the save-dir without `overwrite`. Returns the names of the conflicting snapshots, to remove
 * before the first new one; empty without `overwrite`. Throws
 * - SAVE_DIR_TAKEN if there are snapshots of another run, snapshots later than the one to resume from, or a directory `best` that is not a snapshot;
 * - FILE_UNWRITABLE if there is a config that train did not write.
 */
export async function checkSaveDir(config: Config, run: RunState | null, options: StartOptions): Promise<readonly string[]> {
  const { saveDir, resume, overwrite } = options;
  const conflicts = await findConflicts(config.MODEL.name, run, options);
  if (conflicts.snapshots.length > 0 && !overwrite) {
    const what = `the save-dir contains snapshots ${conflicts.kind}: ${conflicts.snapshots.join(", ")}`;
    const remedy = `use another --save-dir, ${conflicts.alternative}or --overwrite to replace them`;
    throw new NextvladError("SAVE_DIR_TAKEN", what, { file: saveDir, remedy });
  }
  const best = bestSnapshot(saveDir);
  if (!overwrite && (await isForeignDirectory(best))) {
    const remedy = "move it, use another --save-dir, or --overwrite to replace it";
    throw new NextvladError("SAVE_DIR_TAKEN", "the directory of the best snapshot contains other files", { file: best, remedy });
  }
  const resumedConfig = typeof resume?.snapshot === "string" ? join(resume.snapshot, CONFIG) : null;
  await assertReplaceable(join(saveDir, CONFIG), overwrite, (file) => isOwnConfig(file, resumedConfig));
  return conflicts.snapshots;
}

interface Conflicts {
  /** Names in the save-dir. */
  readonly snapshots: readonly string[];
  /** What the snapshots have in common, for the error. */
  readonly kind: string;
  /** Start of the remedy other than another save-dir or --overwrite; may be empty. */
  readonly alternative: string;
}

/**
 * Finds the snapshots that conflict with a run: all of them with a new run (null); with a resumed run, those of another model and those later than the run, and
 * `best` if it may be one of these.
 */
async function findConflicts(model: string, run: RunState | null, { saveDir, skippedSnapshots }: StartOptions): Promise<Conflicts> {
  const existing = (await listSnapshots(saveDir)).filter((name) => !skippedSnapshots.includes(name));
  const hasOtherModel = existing.some((name) => (parseSnapshotName(name)?.model ?? model) !== model);
  const best = await readSnapshotState(bestSnapshot(saveDir)).catch(() => null);
  const isConflicting = (name: string): boolean => {
    if (run === null) return true;
    const parsed = parseSnapshotName(name);
    if (parsed === null) return hasOtherModel || (best !== null && best.step > run.step);
    if (parsed.model !== model) return true;
    return parsed.kind === "epoch" ? parsed.number >= run.epoch : parsed.number > run.step;
  };
  const snapshots = existing.filter(isConflicting);
  if (hasOtherModel) return { snapshots, kind: "of another model", alternative: "" };
  if (run === null) return { snapshots, kind: "of another run", alternative: "--resume one of them, " };
  return { snapshots, kind: "later than the one to resume from", alternative: "resume from the latest of them, " };
}

/** Returns whether a config has the form that train writes, or equals that of the resumed snapshot (which an earlier version may have written). */
async function isOwnConfig(file: string, resumedConfig: string | null): Promise<boolean> {
  const text = await readText(file);
  if (text === null) return false;
  if (resumedConfig !== null && text === (await readText(resumedConfig))) return true;
  return loadConfig(file).then(
    (config) => isFormatted(text, formatConfig(config)),
    () => false,
  );
}

const KEY = /^ {2}\w+:/;
const COMMENT = /^ *#/;

/**
 * Returns whether a config has the form that train writes, in this version or an older one, which had fewer keys and other comments: a comment line before each
 * key, no other comments, and all other lines in `full`, the text with all keys of this version, in the same order.
 */
function isFormatted(text: string, full: string): boolean {
  const lines = text.split("\n");
  const isExplained = (line: string, i: number): boolean => KEY.test(line) === COMMENT.test(lines[i - 1] ?? "");
  if (text === "" || !lines.every(isExplained)) return false;
  const expected = full.split("\n");
  let at = -1;
  return lines.every((line) => {
    if (COMMENT.test(line)) return true;
    at = expected.indexOf(line, at + 1);
    return at !== -1;
  });
}

/** Reads a file as UTF-8; null if it cannot be read. */
function readText(file: string): Promise<string | null> {
  return readInput(file).then(
    (bytes) => bytes.toString("utf8"),
    () => null,
  );
}
