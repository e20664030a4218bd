import type { SaveInterval } from "../base/save-interval.js";
import type { DamageReport } from "../evaluation/damage-report.js";
import type { StartOptions } from "./start.js";

/** What `train` is told besides the config. */
export interface TrainOptions extends StartOptions {
  /** The shards to train on, as often as they are listed. */
  readonly shards: readonly string[];
  /** Those to validate on. */
  readonly validShards: readonly string[];
  readonly damage: DamageReport;
  /** Steps between log lines. */
  readonly logIntervalSteps: number;
  /** Epochs between validations; 0 for none. */
  readonly validIntervalEpochs: number;
  /** How often to snapshot inside an epoch; null for at its end only. */
  readonly saveInterval: SaveInterval | null;
  /** Snapshots to keep, the newest ones, besides `best`; null for all. */
  readonly keep: number | null;
  /** The text of the save-dir's lock, which this process holds. */
  readonly lockText: string;
  /** The shell command that resumes the run from a snapshot; `added` flags replace those given before. */
  readonly resumeCommand: (snapshot: string, added?: readonly string[]) => string;
  /** This program's own version. */
  readonly version: string;
  /** Aborted when the run should finish its step, save and end. */
  readonly signal: AbortSignal;
  /** Gives a function that snapshots at once, to be called between steps. */
  readonly onSaveRequest: (save: () => void) => void;
}

/** What a training came to. */
export interface TrainOutcome {
  readonly stopped: boolean;
  /** Epochs finished. */
  readonly epochs: number;
  /** Steps taken. */
  readonly steps: number;
  readonly lastSnapshot: string | null;
  readonly best: { readonly epoch: number; readonly gap: number; readonly path: string } | null;
}
