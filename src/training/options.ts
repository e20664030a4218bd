import type { Interval, ValidationInterval } from "../base/interval.js";
import type { Threads } from "../base/threads.js";
import type { RunState } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Shard } from "../data/shard.js";
import type { Cluster } from "../distributed/cluster.js";
import type { SkippedRecordReport } from "../passes/skipped-records.js";
import type { Telemetry } from "../telemetry/telemetry.js";

/** How a run starts. */
export interface StartOptions {
  readonly saveDir: string;
  /** Checkpoint to resume from, with the optimizer's state; all arrays must match. `createState` closes it. */
  readonly resume: WeightSource | null;
  /** Step of Paddle's weights without a step counter (`--resume-step`). */
  readonly resumeStep: number | null;
  /** Names of newer, corrupt snapshots in the save-dir, which are ignored. */
  readonly skippedSnapshots: readonly string[];
  /** Initial weights; arrays that do not match the model are initialized. `createState` closes it. */
  readonly pretrain: WeightSource | null;
  /** Whether snapshots of another run in the save-dir may be removed. */
  readonly overwrite: boolean;
  /** Maximum number of videos of each epoch, always the same ones, and of each validation; null for all. */
  readonly limitVideos: number | null;
  readonly telemetry: Telemetry;
}

/** Options of `train` besides the config. */
export interface TrainOptions extends StartOptions {
  /** Shards to train on; a shard that is listed twice is read twice per epoch. */
  readonly shards: readonly Shard[];
  /** Shards to validate on. */
  readonly validShards: readonly Shard[];
  readonly skipped: SkippedRecordReport;
  readonly threads: Threads;
  /** Steps between log lines. */
  readonly logIntervalSteps: number;
  /** Steps between histograms of the parameters; 0 for none. */
  readonly histogramIntervalSteps: number;
  readonly validInterval: ValidationInterval;
  /** Number of validations in a row without a better one after which the run ends; null for none. */
  readonly earlyStop: number | null;
  /** Whether validation computes the metrics over the full ranking too. */
  readonly fullRanking: boolean;
  /** How often to save a snapshot within an epoch; null for only at its end. */
  readonly saveInterval: Interval | null;
  /** Number of newest snapshots to keep, besides `best`; null for all. */
  readonly keep: number | null;
  /** Text of the save-dir's lock, which this process owns. */
  readonly lockText: string;
  /** The shell command that resumes the run from a snapshot; `added` flags replace those given before. */
  readonly resumeCommand: (snapshot: string, added?: readonly string[]) => string;
  /** The cluster of which this process is rank 0; null if it trains on its own. */
  readonly cluster: Cluster | null;
  /** This program's version. */
  readonly version: string;
  /** When aborted, the run finishes its step, saves and ends. */
  readonly signal: AbortSignal;
  /** Registers `save` to be called, between steps, whenever a snapshot is requested (SIGUSR1). */
  readonly onSaveRequest: (save: () => void) => void;
}

/** The result of a training run. */
export interface TrainOutcome {
  readonly stopped: boolean;
  /** Why it stopped early, in words; null if it did not. */
  readonly stoppedEarly: string | null;
  /** Number of finished epochs. */
  readonly epochs: number;
  /** Number of steps, including those before a resume. */
  readonly steps: number;
  readonly lastSnapshot: string | null;
  readonly best: (NonNullable<RunState["best"]> & { readonly path: string }) | null;
  /** Metrics of the last validation, by their names in the log; null if this process did not validate. */
  readonly validation: Readonly<Record<string, number>> | null;
}
